"""The page: one image, three ways to look at it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ui.client import Json, Prompt, ServiceClient, ServiceProblem
from ui.picture import Picture, PictureProblem, open_picture
from ui.viewer import make_viewer, show_answer, show_busy, show_notice, show_picture

_STATIC = Path(__file__).resolve().parent / "static"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

_METHODS = [("Entities (E-SAM)", "entities"), ("Every mask (SAM)", "amg")]
_NO_IMAGE = "Pick an image first."
_NO_NAMES = "Type names first, such as cat, yellow school bus."
_MOST_CHARACTERS = 4000
"""Most characters of all names; they travel in an address."""
_EXAMPLES = {"concepts": "cat, yellow school bus, pets=dog+hamster, -toy cat", "clip": "cat, dog, background"}
"""What may be typed, by what answers names."""
_STATUS_EVERY_S = 5.0
_UPLOADS_KEPT_S = 24 * 3600
Updates = Iterator[dict[str, Any]]


def example_files(folder: Path) -> list[str]:
    """The pictures in a folder, by name; none if there is no folder."""
    if not folder.is_dir():
        return []
    return [str(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES]


class Page:
    """The handlers; each asks the service once and shows its refusals in words.

    Their input comes from anyone who reaches the port, through the page or without it.
    """

    def __init__(self, client: ServiceClient, uploads: Path) -> None:
        """`uploads` is the folder of uploaded files; no other file is ever opened."""
        self._client = client
        self._uploads = uploads

    def pick(self, path: str | None, shown: Picture | None) -> tuple[Any, ...]:
        """Show another image: the upload, the state, then every viewer.

        A file that cannot be shown is taken out of the upload, which calls this once more: what was said of it stays.
        """
        if path is None:
            return (gr.skip(), None, *[gr.skip() if shown is None else show_picture(None)] * 3)
        try:
            picture = open_picture(path, self._uploads)
        except PictureProblem as problem:
            return (None, None, *[show_picture(None, str(problem))] * 3)
        return (gr.skip(), picture, *[show_picture(picture)] * 3)

    def entities(self, picture: Picture | None, method: str) -> Updates:
        yield from _answers(picture, lambda image: self._client.entities(image.data, method))

    def prompt(self, picture: Picture | None, event: gr.EventData) -> Updates:
        asked = Prompt(event.points, event.labels, event.box)
        yield from _answers(picture, lambda image: self._client.points(image.data, image.image_id, asked))

    def classes(self, picture: Picture | None, head: str | None) -> Updates:
        if not head:
            yield show_notice(self._why_no_head())
        else:
            yield from _answers(picture, lambda image: self._client.classes(image.data, head))

    def names(self, picture: Picture | None, names: str | None) -> Updates:
        text = (names or "").strip()
        if not text:
            yield show_notice(_NO_NAMES)
        elif len(text) > _MOST_CHARACTERS:
            yield show_notice(f"The names have {len(text):,} characters; at most {_MOST_CHARACTERS:,} are sent.")
        else:
            yield from _answers(picture, lambda image: self._client.names(image.data, text))

    def heads(self, chosen: str | None) -> dict[str, Any]:
        """The class heads that fit the running model; the chosen one stays chosen."""
        try:
            usable = [item for item in self._client.heads()["heads"] if item["usable"]]
        except ServiceProblem:
            usable = []
        choices = [(f"{item['name']}: {', '.join(item['classes'])}", item["name"]) for item in usable]
        names = [name for _, name in choices]
        return gr.update(choices=choices, value=chosen if chosen in names else next(iter(names), None))

    def refresh(self, chosen: str | None, named: str | None) -> tuple[Any, ...]:
        """Update the service's line, and the class heads if none is chosen: the service may have gone or come back.

        `named` is what answers names as far as this page knows; the place to type them is touched only if that changed.
        """
        heads = gr.skip() if chosen else self.heads(chosen)
        try:
            running = self._client.running()
        except ServiceProblem as problem:
            return f"<span class='dot down'></span>{html.escape(str(problem))}", heads, gr.skip(), gr.skip(), gr.skip()
        model, by = running["models"][0], running.get("names_by")
        words = f"Model <b>{model['name']}</b> on {model['device']} at {html.escape(self._client.endpoint)}"
        status = f"<span class='dot up'></span>{words}"
        if by == named:
            return status, heads, gr.skip(), gr.skip(), gr.skip()
        return status, heads, by, gr.update(visible=by is not None), gr.update(placeholder=_EXAMPLES.get(by or "", ""))

    def _why_no_head(self) -> str:
        try:
            answer = self._client.heads()
        except ServiceProblem as problem:
            return str(problem)
        problems = [item["problem"] for item in answer["heads"] if not item["usable"]]
        if problems:
            return f"No class head fits the running model: {problems[0]}."
        folders = ", ".join(answer["folders"])
        return (
            "There is no class head yet. Train one with `everymask train classes`, and put it where the service looks: "
            f"{folders}."
        )


def _answers(picture: Picture | None, ask: Callable[[Picture], Json]) -> Updates:
    if picture is None:
        yield show_notice(_NO_IMAGE)
        return
    yield show_busy()
    try:
        yield show_answer(ask(picture))
    except ServiceProblem as problem:
        yield show_notice(str(problem))


def _path(payload: Any) -> str | None:
    return None if payload is None else str(payload.path)


def build_page(client: ServiceClient, examples: Path) -> gr.Blocks:
    """The whole page, not yet launched."""
    with gr.Blocks(title="everymask", delete_cache=(_UPLOADS_KEPT_S // 24, _UPLOADS_KEPT_S)) as blocks:
        picture = gr.State(None)
        named_by = gr.State(None)
        gr.HTML(
            "<h1>everymask</h1><p>Masks of everything in an image, of what you click on, or of your classes.</p>",
            elem_id="title",
        )
        status = gr.HTML(elem_id="status")
        with gr.Row(elem_id="work"):
            with gr.Column(scale=1, min_width=280, elem_id="side"):
                upload = gr.Image(
                    label="Image",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    height=220,
                    elem_id="upload",
                )
                page = Page(client, Path(upload.GRADIO_CACHE))
                # Gradio would open the file with every decoder Pillow has; `open_picture` does it in a safer place.
                upload.preprocess = _path  # type: ignore[method-assign]
                files = example_files(examples)
                if files:
                    gr.Examples(files, upload, examples_per_page=12, label="Or pick an example")
            with gr.Column(scale=3, min_width=320), gr.Tabs(elem_id="tabs"):
                with gr.Tab("Entities", id="entities"):
                    with gr.Row(elem_classes="ask"):
                        method = gr.Radio(
                            _METHODS, value="entities", show_label=False, container=False, elem_id="method"
                        )
                        find_entities = gr.Button("Find masks", variant="primary", elem_id="find-entities")
                    entities = make_viewer("Pick an image, then press Find masks.", "entities-viewer")
                with gr.Tab("Click", id="click"):
                    clicks = make_viewer(
                        "Pick an image, then click on an object in it.", "click-viewer", prompting=True
                    )
                with gr.Tab("Your classes", id="classes") as classes_tab:
                    with gr.Row(elem_classes="ask"):
                        head = gr.Dropdown([], show_label=False, container=False, elem_id="class-head")
                        find_classes = gr.Button("Find classes", variant="primary", elem_id="find-classes")
                    # Shown where the service answers names.
                    with gr.Row(elem_classes="ask", visible=False) as by_name:
                        names = gr.Textbox(
                            label="Names",
                            show_label=False,
                            container=False,
                            max_lines=1,
                            max_length=_MOST_CHARACTERS,
                            elem_id="names",
                        )
                        find_names = gr.Button("Find names", variant="primary", elem_id="find-names")
                    classes = make_viewer(
                        "Pick an image, then a class head or, where there is a place for them, names.",
                        "classes-viewer",
                    )

        # Private: the page alone calls them. Whoever calls them all the same meets the same checks.
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        asking: dict[str, Any] = {**quiet, "concurrency_limit": 4}
        upload.change(page.pick, [upload, picture], [upload, picture, entities, clicks, classes], **quiet)
        find_entities.click(page.entities, [picture, method], entities, **asking)
        # While an answer is awaited only the latest prompt counts.
        clicks.prompt(page.prompt, picture, clicks, trigger_mode="always_last", **asking)
        find_classes.click(page.classes, [picture, head], classes, **asking)
        gr.on([find_names.click, names.submit], page.names, [picture, names], classes, **asking)
        classes_tab.select(page.heads, head, head, **quiet)
        shown = [status, head, named_by, by_name, names]
        blocks.load(page.refresh, [head, named_by], shown, **quiet)
        gr.Timer(_STATUS_EVERY_S).tick(page.refresh, [head, named_by], shown, **quiet)
    assert isinstance(blocks, gr.Blocks)
    return blocks


def page_style() -> str:
    return (_STATIC / "page.css").read_text(encoding="utf-8")
