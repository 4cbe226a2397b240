"""The shell of every HTML page: one file with its style inside, light or dark as the reader's system."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_page(title: str, body: str, *, style: str, max_width_px: int) -> str:
    """A page with the title as its heading.

    Args:
        title: plain text.
        body: HTML below the heading.
        style: CSS after the common one, which defines the colours `--paper`, `--card`, `--ink`, `--soft`, `--line`,
            `--first` and `--second`.
        max_width_px: the page's maximum width.
    """
    heading = escape(title)
    return _SHELL.format(title=heading, body=body, style=style.strip(), max_width=max_width_px)


def facts_list(facts: Sequence[tuple[str, str]]) -> str:
    """(name, value) pairs of plain text as a row of small boxes."""
    boxes = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f"<dl>{boxes}</dl>"


_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --paper: #fafaf8; --card: #fff; --ink: #222226; --soft: #6a6a70; --line: #e2e2de;
  --first: #2563eb; --second: #c2410c; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #161618; --card: #1f1f22; --ink: #ececee; --soft: #a0a0a8; --line: #333338;
    --first: #60a5fa; --second: #fb923c; }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: {max_width}px; padding: 1.5rem clamp(.75rem, 3vw, 2.5rem) 3rem;
  background: var(--paper); color: var(--ink); font: 16px/1.45 system-ui, sans-serif; }}
h1 {{ font-size: clamp(1.3rem, 4vw, 1.8rem); margin: 0 0 1rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.2rem; margin: 2.5rem 0 .75rem; }}
dl {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .5rem; margin: 0 0 1.25rem; }}
dl div {{ background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .5rem .8rem; }}
dt {{ color: var(--soft); font-size: .8rem; }}
dd {{ margin: 0; font-size: 1.1rem; font-weight: 600; overflow-wrap: anywhere; }}
{style}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
