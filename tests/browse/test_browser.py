"""The page in a real browser: found, looked at, corrected with keys, by two people, on a phone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect

from browse.collection import Collection
from everymask.labels.correction_log import read_history
from everymask.labels.corrections import read_corrections
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore
from everymask.masks.rle import decode_mask, encode_mask
from tests.browse.stores import collection_of, guarded, rows_with_pictures, store_of
from tests.free_ports import free_port
from tests.ui.answering import answering
from ui.client import ServiceClient

pytestmark = pytest.mark.browser

LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 390, "height": 844}
WAIT_MS = 60_000
FIRST, SECOND = "photo 00.png", "photo 01.png"
CORNER = encode_mask(np.pad(np.ones((5, 6), bool), ((0, 35), (0, 54))))


@pytest.fixture
def rows(tmp_path: Path) -> list[ImageRow]:
    """Four images, one of which says how surely it shows the names."""
    first, *others = rows_with_pictures(tmp_path / "photos", count=4)
    assert first.labels is not None
    return [replace(first, labels=replace(first.labels, presence=(0.25, 0.96))), *others]


@pytest.fixture
def store(rows: list[ImageRow], tmp_path: Path) -> LabelStore:
    return store_of(rows, tmp_path / "labels", tmp_path / "photos")


@contextmanager
def served(collection: Collection, cache: Path, service: ServiceClient | None = None) -> Iterator[str]:
    """The address of the page."""
    port = free_port()
    app = guarded(collection, cache, service)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def url(store: LabelStore, tmp_path: Path) -> Iterator[str]:
    with served(collection_of(store, tmp_path / "cache"), tmp_path / "cache") as address:
        yield address


@contextmanager
def opened(browser: Browser, url: str, name: str = "ada", viewport: dict[str, int] = LAPTOP) -> Iterator[Page]:
    """Somebody's browser."""
    context = browser.new_context(viewport=viewport)
    context.add_init_script(f"localStorage.setItem('annotator', {json.dumps(name)})")
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)
    page.goto(url)
    yield page
    context.close()
    assert not problems


def actions(store: LabelStore, image_id: str) -> list[str]:
    return [mask.action for mask in read_corrections(store)[image_id].masks]


def masks(page: Page) -> list[str]:
    """What the panel says became of each mask."""
    return [str(row.get_attribute("title")).partition(",")[0] for row in page.locator(".masks li").all()]


def test_images_are_found_and_looked_at(browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        expect(page.locator(".card")).to_have_count(5)
        assert page.locator(".card .id").first.inner_text() == "broken.png", "an error is the most doubtful"
        expect(page.locator(".classes")).to_contain_text("cat4")
        page.get_by_label("Search ids").fill("photo")
        expect(page.locator(".toolbar h1")).to_have_text("4 images of 5")
        page.get_by_label("Score, least").fill("0.86")
        page.get_by_label("Score, least").press("Enter")
        expect(page.locator(".card")).to_have_count(2)
        assert "score=0.86-" in page.url
        page.locator(".card", has_text=FIRST).click()
        expect(page.locator(".masks li")).to_have_count(2)
        expect(page.locator(".presence")).to_have_text("in the picture:dog 0.96cat 0.25")
        page.keyboard.press("Escape")
        expect(page.locator(".card")).to_have_count(2)
        page.go_back()
        expect(page.locator(".masks li")).to_have_count(2)
        page.reload()
        expect(page.locator(".image-bar .at")).to_have_text("2 of 2")
        page.locator("#home").click()
        page.get_by_role("button", name="Errors").click()
        expect(page.locator(".card")).to_have_text(["the file is empty (0 bytes)broken.pngerror"])


def test_masks_are_drawn_where_their_run_lengths_say(browser: Browser, url: str, rows: list[ImageRow]) -> None:
    with opened(browser, f"{url}/?image={FIRST}") as page:
        expect(page.locator(".masks li")).to_have_count(2)
        read = """() => { const canvas = document.querySelector('.sheet canvas');
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            return [canvas.width, canvas.height, [...data].filter((_, i) => i % 4 === 3)] }"""
        width, height, alpha = page.evaluate(read)
        drawn = np.array(alpha).reshape(height, width) > 0
        assert rows[0].labels is not None
        expected = np.any([decode_mask(mask.rle) for mask in rows[0].labels.masks], axis=0)
        np.testing.assert_array_equal(drawn, expected)
        box = page.locator(".sheet").bounding_box()
        assert box is not None
        y, x = np.argwhere(decode_mask(rows[0].labels.masks[1].rle))[0]
        page.mouse.move(box["x"] + (x + 0.5) / 60 * box["width"], box["y"] + (y + 0.5) / 40 * box["height"])
        expect(page.locator(".hover-card")).to_contain_text("dog")
        page.keyboard.press("m")
        assert not any(page.evaluate(read)[2])


def test_an_image_is_corrected_with_keys(browser: Browser, url: str, store: LabelStore) -> None:
    with opened(browser, f"{url}/?order=id&text=photo") as page:
        page.locator(".card", has_text=FIRST).click()
        expect(page.locator(".masks li")).to_have_count(2)
        expect(page.get_by_label("Next image")).to_be_enabled()
        page.keyboard.press("n")
        expect(page.locator(".masks li").first).to_have_attribute("aria-selected", "true")
        page.keyboard.press("x")
        expect(page.locator(".masks li").first).to_have_class("deleted off")
        assert actions(store, FIRST) == ["deleted", "kept"], "kept before it is shown"
        page.keyboard.press("z")
        expect(page.locator(".masks li.deleted")).to_have_count(0)
        page.keyboard.press("n")
        page.keyboard.press("2")
        expect(page.locator(".panel .state")).to_contain_text("Begun by ada")
        page.keyboard.press("Escape")
        page.keyboard.press("r")
        page.keyboard.press("e")
        page.keyboard.press("r")
        page.get_by_placeholder("Type a name").fill("do")
        page.keyboard.press("Enter")
        expect(page.locator(".panel .state")).to_contain_text("Finished by ada")
        page.keyboard.press("ArrowRight")
        expect(page.locator(".image-bar .id")).to_have_text(SECOND)
        expect(page.locator(".masks li")).to_have_count(2)
        expect(page.get_by_label("Next image")).to_be_enabled()
        page.keyboard.press("Enter")
        expect(page.locator(".image-bar .id")).to_have_text("photo 02.png")
        page.keyboard.press("Escape")
        expect(page.locator(".badge.finished")).to_have_count(2)
    found = read_corrections(store)
    assert sorted(mask.class_name or "" for mask in found[FIRST].masks) == ["dog", "dog"]
    assert actions(store, SECOND) == ["confirmed", "confirmed"]


def test_two_people_at_one_image(browser: Browser, url: str, store: LabelStore) -> None:
    address = f"{url}/?image={FIRST}"
    with opened(browser, address, "ada") as ada, opened(browser, address, "bob") as bob:
        for page in (ada, bob):
            expect(page.locator(".masks li")).to_have_count(2)
        ada.locator(".masks li").nth(0).click()
        ada.keyboard.press("x")
        expect(ada.locator(".masks li.deleted")).to_have_count(1)
        bob.locator(".masks li").nth(1).click()
        bob.keyboard.press("x")
        expect(bob.locator("#panel .notice")).to_contain_text("ada changed this image meanwhile")
        assert masks(bob) == ["deleted", "not judged"], "what ada did is shown"
        assert actions(store, FIRST) == ["deleted", "kept"]
        bob.get_by_role("button", name="Do mine on top").click()
        expect(bob.locator(".masks li.deleted")).to_have_count(2)
        expect(bob.locator("#panel .notice")).to_have_count(0)
        ada.keyboard.press("e")
        ada.keyboard.press("c")
        expect(ada.locator("#panel .notice")).to_contain_text("bob changed this image meanwhile")
        ada.get_by_role("button", name="Leave theirs").click()
        assert masks(ada) == ["deleted", "deleted"]
    assert sorted(entry.annotator for entry in read_history(store).entries[FIRST]) == ["ada", "bob"]


def test_several_images_at_once_and_taken_back(browser: Browser, url: str, store: LabelStore) -> None:
    with opened(browser, f"{url}/?order=id&class=1&score=-0.61") as page:
        expect(page.locator(".card")).to_have_count(2)
        page.keyboard.press("s")
        page.locator(".card").nth(0).click()
        page.locator(".card").nth(1).click(modifiers=["Shift"])
        page.get_by_role("button", name="Delete matching masks").click()
        expect(page.locator(".toast")).to_contain_text("Kept of 2 images")
        assert {tuple(actions(store, name)) for name in read_corrections(store)} == {("kept", "deleted")}
        page.keyboard.press("z")
        expect(page.locator(".toast", has_text="Taken back on 2 images")).to_be_visible()
        assert {tuple(actions(store, name)) for name in read_corrections(store)} == {("kept", "kept")}


@pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_a_mask_is_added_by_clicks(
    browser: Browser, store: LabelStore, tmp_path: Path, viewport: dict[str, int]
) -> None:
    mask = {"rle": CORNER, "bbox": [0, 0, 6, 5], "area": 30, "score": 0.9, "predicted_iou": 0.9, "stability_score": 1.0}
    answer = json.dumps({"masks": [mask, {**mask, "score": 0.5}]}).encode()
    with (
        answering(200, answer) as service_url,
        served(collection_of(store, tmp_path / "cache"), tmp_path / "cache", ServiceClient(service_url)) as url,
        opened(browser, f"{url}/?image={FIRST}", viewport=viewport) as page,
    ):
        expect(page.locator(".masks li")).to_have_count(2)
        page.keyboard.press("a")
        sheet, candidates = page.locator(".sheet"), page.locator(".adding-bar .choices button")
        if viewport is PHONE:
            out = page.get_by_label("Leave out what is tapped")
            out.click()
            expect(out).to_have_attribute("aria-pressed", "true")
            sheet.click(position={"x": 20, "y": 100})
            out.click()
        with page.expect_request("**/api/click") as asked:
            sheet.click(position={"x": 20, "y": 80})
        assert asked.value.post_data_json["labels"] == ([0, 1] if viewport is PHONE else [1])
        expect(candidates).to_have_count(2)
        for part in ("Keep", "Leave"):
            button = page.locator(".adding-bar").get_by_role("button", name=part, exact=viewport is PHONE)
            expect(button).to_be_in_viewport(ratio=1)
        bar = page.locator(".adding-bar").bounding_box()
        assert bar is not None
        assert bar["height"] < 120, "the picture is seen below it"
        page.get_by_label("Class").select_option("dog")
        page.keyboard.press("Enter")
        expect(page.locator(".masks li")).to_have_count(3)
        page.keyboard.press("Escape")
    added = read_corrections(store)[FIRST].masks[2]
    assert (added.action, added.class_name, added.rle) == ("added", "dog", CORNER)


def test_a_service_that_is_away_is_said_so(browser: Browser, store: LabelStore, tmp_path: Path) -> None:
    service = ServiceClient(f"http://127.0.0.1:{free_port()}")
    with (
        served(collection_of(store, tmp_path / "cache"), tmp_path / "cache", service) as url,
        opened(browser, f"{url}/?image={FIRST}") as page,
    ):
        expect(page.locator(".masks li")).to_have_count(2)
        page.keyboard.press("a")
        page.locator(".sheet").click(position={"x": 20, "y": 20})
        expect(page.locator(".toast.bad")).to_contain_text("Is it running?")


def test_on_a_phone(browser: Browser, url: str, store: LabelStore) -> None:
    fits = "() => document.documentElement.scrollWidth <= innerWidth"
    with opened(browser, url, viewport=PHONE) as page:
        expect(page.locator(".card")).to_have_count(5)
        assert page.evaluate(fits)
        page.get_by_label("Filters").first.click()
        page.get_by_role("button", name="Masks", exact=True).first.click()
        page.get_by_role("button", name="Show 4 images").click()
        expect(page.locator("#filters")).not_to_be_visible()
        page.locator(".card", has_text=FIRST).click()
        expect(page.locator(".masks li")).to_have_count(2)
        assert page.evaluate(fits)
        page.locator(".masks li").first.click()
        page.locator("#actions").get_by_role("button", name="Delete").click()
        expect(page.locator(".masks li.deleted")).to_have_count(1)
        page.locator("#actions").get_by_role("button", name="Confirm 1 mask").click()
        expect(page.locator(".panel .state")).to_contain_text("Finished")
    assert actions(store, FIRST) == ["deleted", "confirmed"]
