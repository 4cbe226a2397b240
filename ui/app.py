"""The web page, an HTTP client of the service: `python ui/app.py --endpoint http://127.0.0.1:8000`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import tyro

HOME = Path(__file__).resolve().parent.parent
# Started as a script, Python looks for modules beside the script, not above it.
sys.path.insert(0, str(HOME))

from ui.client import ServiceClient  # noqa: E402
from ui.page import build_page, page_style  # noqa: E402
from ui.picture import MAX_BYTES  # noqa: E402

API_KEY_VARIABLE = "EVERYMASK_API_KEY"
_MOST_SESSIONS = 50


@dataclass(frozen=True)
class UiOptions:
    """A Gradio page for one everymask service. The API key, if it needs one, is read from EVERYMASK_API_KEY."""

    endpoint: str = "http://127.0.0.1:8000"
    """The service's address."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: int = 7860
    """Port to listen on."""
    examples: Path = HOME / "examples" / "images"
    """Folder of example pictures."""


def main(arguments: Sequence[str]) -> int:
    """Serve the page until interrupted; returns the exit code."""
    options = tyro.cli(UiOptions, args=arguments, prog="everymask ui")
    if not options.endpoint.startswith(("http://", "https://")):
        print(f"--endpoint {options.endpoint!r} is no http(s) address, such as http://127.0.0.1:8000", file=sys.stderr)
        return 2
    page = build_page(ServiceClient(options.endpoint, os.environ.get(API_KEY_VARIABLE)), options.examples)
    try:
        launch(page, options)
    except OSError as error:
        print(
            f"error: {options.host}:{options.port} cannot be used ({error}); perhaps a page is running there already: "
            "stop it, or choose another --port",
            file=sys.stderr,
        )
        return 2
    return 0


def launch(page: gr.Blocks, options: UiOptions) -> None:
    """Serve the page until interrupted; OSError if the address is in use."""
    page.launch(
        server_name=options.host,
        server_port=options.port,
        css=page_style(),
        theme=_theme(),
        footer_links=[],
        max_file_size=MAX_BYTES,
        allowed_paths=[str(options.examples.resolve())],
        # A session keeps the picture it works on.
        state_session_capacity=_MOST_SESSIONS,
    )


def _theme() -> gr.themes.Base:
    """Gradio's, with the contrast that small grey text and white text on buttons need (WCAG 2.2 AA: 4.5 to 1)."""
    theme = gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font=["system-ui", "sans-serif"])
    return theme.set(
        body_text_color_subdued="*neutral_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
