"""The viewer component: a `gr.HTML` whose drawing, filters and clicks live in `static/`."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr

from ui.picture import Picture

_STATIC = Path(__file__).resolve().parent / "static"
# Served as they are, so that the modules find each other; the address is right behind a proxy's prefix, too. Gradio
# looks for the quoted name of the event here.
gr.set_static_paths([_STATIC])
_START = f"""
const root = window.gradio_config?.root ?? "";
import(`${{root}}/gradio_api/file={_STATIC.as_posix()}/viewer.js`).then((viewer) =>
  viewer.startViewer(element, props, watch, (data) => trigger("prompt", data)),
);
"""


def make_viewer(hint: str, elem_id: str, prompting: bool = False) -> gr.HTML:
    """A viewer without an image.

    `hint` is shown until an image is picked; with `prompting`, clicks become `prompt` events and do not show the mask
    under the pointer.
    """
    return gr.HTML(
        None,
        html_template=_template(hint, prompting),
        css_template=(_STATIC / "viewer.css").read_text(encoding="utf-8"),
        js_on_load=_START,
        apply_default_css=False,
        elem_id=elem_id,
        picture="",
        file_name="",
        image_id="",
        image_size=[0, 0],
        notice="",
        busy=False,
    )


def _template(hint: str, prompting: bool) -> str:
    # Not as props: an update of some props drops the others of a viewer whose tab was not opened yet.
    template = (_STATIC / "viewer.html").read_text(encoding="utf-8")
    values = {"PROMPTING": str(prompting).lower(), "HINT": html.escape(hint)}
    for name, value in values.items():
        template = template.replace(name, value)
    return template


# Gradio leaves out of an update what is None, so nothing here is: empty text and no masks are sent as such.


def show_picture(picture: Picture | None, notice: str = "") -> dict[str, Any]:
    """Update: another image, or none, without masks."""
    return gr.update(
        value={},
        picture="" if picture is None else picture.shown,
        file_name="" if picture is None else picture.name,
        image_id="" if picture is None else picture.image_id,
        image_size=[0, 0] if picture is None else list(picture.size),
        notice=notice,
        busy=False,
    )


def show_answer(answer: dict[str, Any]) -> dict[str, Any]:
    """Update: the masks of an answer."""
    return gr.update(value=answer, notice="", busy=False)


def show_notice(notice: str) -> dict[str, Any]:
    """Update: a notice above the content, which stays."""
    return gr.update(notice=notice, busy=False)


def show_busy() -> dict[str, Any]:
    """Update: waiting for an answer."""
    return gr.update(notice="", busy=True)
