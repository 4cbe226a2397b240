"""What is on the page after one thing and then another, in a real browser, against the service in this process."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
import torch
from playwright.sync_api import Browser, Page, expect
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from everymask.backbone.sam import SamBackbone
from everymask.classes.head import ClassHead, save_head
from everymask.classes.training.train import TrainingConfig, head_spec
from tests.free_ports import free_port
from tests.serve.local import listening, local_app
from tests.serve.pictures import encoded, picture
from tests.ui.browsing import (
    LAPTOP,
    download_coco,
    expect_no_broken_image,
    find_all_masks,
    open_tab,
    opened,
    set_slider,
    start_page,
    summary,
)

pytestmark = pytest.mark.browser


class Held:
    """An app that can be made to wait before it labels."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.go_on = Event()
        self.go_on.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            await run_in_threadpool(self.go_on.wait, 60)
        await self._app(scope, receive, send)


@pytest.fixture(scope="module")
def app(tiny_sam_checkpoint: Path, tiny_sam: SamBackbone, tmp_path_factory: pytest.TempPathFactory) -> Held:
    """The service; none of its twenty classes is likely, and it labels all the same."""
    heads = tmp_path_factory.mktemp("heads")
    torch.manual_seed(0)
    names = tuple(f"class {i}" for i in range(20))
    save_head(ClassHead(head_spec(names, tiny_sam, TrainingConfig(hidden_dim=8))), heads / "many.safetensors")
    settings = {
        "model": "vit_b",
        "checkpoint": str(tiny_sam_checkpoint),
        "device": "cpu",
        "heads": str(heads),
        "amg": {"points_per_side": 4, "pred_iou_thresh": 0, "stability_score_thresh": 0},
        "classes": {"masks": {"points_per_side": 4}, "score_thresh": 0.0},
    }
    return Held(local_app(settings, None))


@pytest.fixture(scope="module")
def service_url(app: Held) -> Iterator[str]:
    with listening(app, free_port()) as url:
        yield url


@pytest.fixture(scope="module")
def page_url(service_url: str) -> Iterator[str]:
    with start_page(service_url) as url:
        yield url


@pytest.fixture
def page(browser: Browser, page_url: str) -> Iterator[Page]:
    with opened(browser, page_url, LAPTOP) as page:
        yield page


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.png"
    file.write_bytes(encoded(picture(77, (240, 160))))
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "bad.png"
    file.write_bytes(encoded(picture(0))[:60])
    return file


def pick(page: Page, file: Path) -> None:
    """Pick a file in place of what is there."""
    remove = page.get_by_label("Remove Image")
    if remove.count():
        remove.click()
    page.locator("#upload input[type=file]").set_input_files(file)


def shows(page: Page, viewer: str, image: bool, masks: bool, notice: str | None = None) -> None:
    """Wait until a viewer shows just this."""
    expect(page.locator(f"#{viewer} canvas")).to_be_visible(visible=image)
    expect(page.locator(f"#{viewer} .summary")).to_be_visible(visible=masks)
    words = page.locator(f"#{viewer} .notice")
    if notice is None:
        expect(words).to_be_hidden()
    else:
        expect(words).to_contain_text(notice)


def test_nothing_of_one_picture_is_left_with_the_next(page: Page, good: Path, bad: Path, tmp_path: Path) -> None:
    viewer = "entities-viewer"
    page.locator("#find-entities").click()
    shows(page, viewer, image=False, masks=False, notice="Pick an image first.")
    pick(page, good)
    shows(page, viewer, image=True, masks=False)
    find_all_masks(page, viewer)
    shows(page, viewer, image=True, masks=True)

    expect_no_broken_image(page)

    pick(page, bad)
    expect(page.get_by_label("Remove Image")).to_have_count(0)
    expect_no_broken_image(page)
    shows(page, viewer, image=False, masks=False, notice="bad.png cannot be opened")
    page.locator("#find-entities").click()
    shows(page, viewer, image=False, masks=False, notice="Pick an image first.")

    other = tmp_path / "discs.png"
    other.write_bytes(encoded(picture(78, (120, 90))))
    pick(page, other)
    shows(page, viewer, image=True, masks=False)
    expect_no_broken_image(page)
    find_all_masks(page, viewer)
    shows(page, viewer, image=True, masks=True)
    assert download_coco(page, viewer)["images"][0]["width"] == 120

    page.get_by_label("Remove Image").click()
    shows(page, viewer, image=False, masks=False)


def test_a_file_that_browsers_cannot_draw_is_seen_all_the_same(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "scan.tiff"
    picture(79, (120, 90)).save(file)
    pick(page, file)
    shows(page, "entities-viewer", image=True, masks=False)
    expect_no_broken_image(page)


def test_a_service_may_go_and_come_back(browser: Browser, app: Held, good: Path) -> None:
    viewer = "entities-viewer"
    port = free_port()
    with start_page(f"http://127.0.0.1:{port}") as url, opened(browser, url, LAPTOP) as page:
        expect(page.locator("#status")).to_contain_text("does not answer")
        with listening(app, port):
            expect(page.locator("#status")).to_contain_text("vit_b")
            pick(page, good)
            shows(page, viewer, image=True, masks=False)
            find_all_masks(page, viewer)
        expect(page.locator("#status")).to_contain_text("does not answer")
        page.locator("#find-entities").click()
        shows(page, viewer, image=True, masks=True, notice="Is it running?")
        with listening(app, port):
            expect(page.locator("#status")).to_contain_text("vit_b")
            page.locator("#find-entities").click()
            shows(page, viewer, image=True, masks=True)


def test_something_moves_while_an_image_is_worked_on(page: Page, app: Held, good: Path) -> None:
    pick(page, good)
    shows(page, "entities-viewer", image=True, masks=False)
    busy = page.locator("#entities-viewer .busy")
    expect(busy).to_be_hidden()
    app.go_on.clear()
    try:
        page.locator("#find-entities").click()
        expect(busy).to_be_visible()
    finally:
        app.go_on.set()
    shows(page, "entities-viewer", image=True, masks=True)
    expect(busy).to_be_hidden()


def test_tools_are_off_when_there_is_nothing_to_do_with_them(page: Page, good: Path) -> None:
    open_tab(page, "Click")
    pick(page, good)
    canvas = page.locator("#click-viewer canvas")
    expect(canvas).to_be_visible()
    expect(page.locator("#click-viewer .help")).to_contain_text("Click on an object")
    undo, clear, keep = (page.locator(f"#click-viewer [data-action={name}]") for name in ("undo", "clear", "keep"))
    for tool in (undo, clear, keep):
        expect(tool).to_be_disabled()
    canvas.click()
    for tool in (undo, clear, keep):
        expect(tool).to_be_enabled()
    keep.click()
    expect(undo).to_be_disabled()
    expect(keep).to_be_disabled()
    clear.click()
    expect(clear).to_be_disabled()
    page.locator("#click-viewer [data-tool=box]").click()
    expect(page.locator("#click-viewer .help")).to_contain_text("Drag a box")


def test_unlikely_masks_are_seen_at_first_and_counted_when_hidden(page: Page, good: Path) -> None:
    viewer = "classes-viewer"
    open_tab(page, "Your classes")
    pick(page, good)
    shows(page, viewer, image=True, masks=False)
    page.locator("#find-classes").click()
    shows(page, viewer, image=True, masks=True)
    found = re.match(r"(\d+) of (\d+) masks?", summary(page, viewer))
    assert found is not None
    assert int(found[1]) >= 1
    set_slider(page, viewer, "score", 0.95)
    assert summary(page, viewer).startswith(f"0 of {found[2]} mask")
    assert f"{found[2]} below 0.95" in summary(page, viewer)
    for action in ("coco", "png"):
        expect(page.locator(f"#{viewer} [data-action={action}]")).to_be_disabled()


def test_actions_are_seen_without_scrolling(browser: Browser, page_url: str, good: Path) -> None:
    with opened(browser, page_url, {"width": 1366, "height": 650}) as page:
        pick(page, good)
        shows(page, "entities-viewer", image=True, masks=False)
        find_all_masks(page, "entities-viewer")
        for part in (".summary", "[data-action=coco]", "[data-action=png]", "canvas"):
            expect(page.locator(f"#entities-viewer {part}")).to_be_in_viewport(ratio=1)


def test_the_page_of_the_api_needs_no_other_host(browser: Browser, service_url: str) -> None:
    with opened(browser, service_url, LAPTOP) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(service_url)
        expect(page.get_by_text("/v1/entities", exact=True)).to_be_visible()
        assert page.url == f"{service_url}/docs"
        assert [url for url in asked if not url.startswith((service_url, "data:", "blob:"))] == []


@pytest.mark.parametrize("path", ["/dev/zero", "OWN", "OWN/../secret.png"])
@pytest.mark.parametrize("meta", [None, {"_type": "gradio.FileData"}, {"_type": "x"}])
def test_no_file_but_an_upload_is_opened_for_whoever_asks(
    page_url: str, good: Path, path: str, meta: dict[str, str] | None
) -> None:
    (good.parent / "secret.png").write_bytes(good.read_bytes())
    (good.parent / "sub").mkdir()
    path = path.replace("OWN/", f"{good.parent}/sub/").replace("OWN", str(good))
    picked: dict[str, Any] = {"path": path} | ({} if meta is None else {"meta": meta})
    session = secrets.token_hex(6)
    with httpx.Client(base_url=page_url, timeout=60) as http:
        (pick,) = (item["id"] for item in http.get("/config").json()["dependencies"] if item["api_name"] == "pick")
        asked = {"data": [picked], "event_data": None, "fn_index": pick, "trigger_id": 0, "session_hash": session}
        if http.post("/gradio_api/queue/join", json=asked).is_success:
            assert "data:image" not in events(http, f"/gradio_api/queue/data?session_hash={session}")
        called = http.post("/gradio_api/call/pick", json={"data": [picked]})
        if called.is_success:
            assert "data:image" not in events(http, f"/gradio_api/call/pick/{called.json()['event_id']}")


def events(http: httpx.Client, path: str) -> str:
    """What Gradio sends until it is done."""
    received = ""
    with http.stream("GET", path) as stream:
        for line in stream.iter_lines():
            received += line
            if "process_completed" in line or "unexpected_error" in line:
                break
    return received
