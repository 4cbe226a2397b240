"""One HTML page about a run, with its pictures inside: nothing else to carry along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from everymask.labels.rows import LabelledImage
from everymask.pictures.embedded import data_uri


@dataclass(frozen=True)
class ReportItem:
    """One labelled image of the page.

    Attributes:
        image: its row.
        picture: (h, w, 3) uint8 RGB, small.
        overlay: the same with masks, of the same size.
    """

    image: LabelledImage
    picture: NDArray[np.uint8]
    overlay: NDArray[np.uint8]


def html_report(
    title: str,
    facts: Sequence[tuple[str, str]],
    items: Sequence[ReportItem],
    failures: Sequence[LabelledImage],
    note: str = "",
) -> str:
    """The page.

    Args:
        title: its heading.
        facts: (name, value) about the whole run.
        items: labelled images to show, in order.
        failures: images that have an error in place of labels.
        note: a sentence on what is left out.
    """
    cards = "\n".join(_card(item) for item in items)
    return _PAGE.format(
        title=escape(title),
        facts="".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts),
        cards=cards or "<p>No image was labelled.</p>",
        failures=_failures(failures),
        note=f'<p class="note">{escape(note)}</p>' if note else "",
    )


def _card(item: ReportItem) -> str:
    labels = item.image.labels
    assert labels is not None
    count = len(labels.masks)
    height, width = labels.size_hw
    name = escape(item.image.image_id)
    return f"""<figure>
<label class="picture" style="aspect-ratio:{item.picture.shape[1]}/{item.picture.shape[0]}">
<input type="checkbox" aria-label="Hide the masks of {name}">
<img loading="lazy" src="{data_uri(item.picture)}" alt="{name}">
<img loading="lazy" class="masks" src="{data_uri(item.overlay)}" alt="{count} masks of {name}">
</label>
<figcaption><b>{name}</b>
<span>{count} mask{"" if count == 1 else "s"}</span><span>{labels.coverage:.0%} covered</span>\
<span>{item.image.seconds:.2f} s</span><span>{width} x {height}</span>{_class_names(item.image)}</figcaption>
</figure>"""


def _class_names(image: LabelledImage) -> str:
    assert image.labels is not None
    names = sorted({mask.class_name for mask in image.labels.masks if mask.class_name is not None})
    return f'<span class="classes">{escape(", ".join(names))}</span>' if names else ""


def _failures(failures: Sequence[LabelledImage]) -> str:
    if not failures:
        return ""
    rows = "\n".join(
        f"<tr><td>{escape(image.image_id)}</td><td>{escape(image.error or '')}</td></tr>" for image in failures
    )
    return f"<h2>Not labelled</h2>\n<table><tr><th>image</th><th>why</th></tr>\n{rows}</table>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --paper: #fafaf8; --card: #fff; --ink: #222226; --soft: #6a6a70; --line: #e2e2de; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #161618; --card: #1f1f22; --ink: #ececee; --soft: #a0a0a8; --line: #333338; }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 1500px; padding: 1.5rem clamp(.75rem, 3vw, 2.5rem) 3rem; background: var(--paper);
  color: var(--ink); font: 16px/1.45 system-ui, sans-serif; }}
h1 {{ font-size: clamp(1.3rem, 4vw, 1.8rem); margin: 0 0 1rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.2rem; margin: 2.5rem 0 .75rem; }}
dl {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .5rem; margin: 0 0 1.25rem; }}
dl div {{ background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .5rem .8rem; }}
dt {{ color: var(--soft); font-size: .8rem; }}
dd {{ margin: 0; font-size: 1.1rem; font-weight: 600; overflow-wrap: anywhere; }}
.hint, .note {{ color: var(--soft); font-size: .9rem; margin: 0 0 1rem; }}
.grid {{ columns: 22rem; column-gap: 1rem; }}
figure {{ break-inside: avoid; margin: 0 0 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .7rem; overflow: hidden; }}
.picture {{ display: block; position: relative; cursor: pointer; width: 100%; }}
.picture img {{ position: absolute; inset: 0; width: 100%; height: 100%; }}
.picture input {{ position: absolute; opacity: 0; }}
.picture input:checked ~ .masks {{ visibility: hidden; }}
.picture input:focus-visible ~ img {{ outline: 3px solid #3b82f6; outline-offset: -3px; }}
figcaption {{ padding: .55rem .8rem .7rem; font-size: .9rem; display: flex; flex-wrap: wrap; gap: .1rem .9rem; }}
figcaption b {{ flex-basis: 100%; overflow-wrap: anywhere; }}
figcaption span {{ color: var(--soft); }}
figcaption .classes {{ color: inherit; }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem; }}
th, td {{ text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }}
td:first-child {{ font-weight: 600; min-width: 7rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
<dl>{facts}</dl>
<p class="hint">Click or tap a picture to hide and show its masks.</p>
{note}
<div class="grid">
{cards}
</div>
{failures}
</body>
</html>
"""
