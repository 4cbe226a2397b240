"""The page in a real browser, against the real service: upload, masks, filter, click, classes, download."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from benchmarks.running_service import API_KEY, REPOSITORY, RunningService, free_port
from everymask.masks.rle import decode_mask
from tests.serve.pictures import encoded, picture

pytestmark = [pytest.mark.serve, pytest.mark.browser]

LAPTOP = {"width": 1366, "height": 900}
PHONE = {"width": 390, "height": 844}
WAIT_MS = 120_000
IMAGE_SIZE = (240, 160)


@contextmanager
def start_page(endpoint: str) -> Iterator[str]:
    """`python ui/app.py` in a process of its own; its address."""
    port = free_port()
    environment = {**os.environ, "EVERYMASK_API_KEY": API_KEY, "GRADIO_ANALYTICS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "ui/app.py", "--endpoint", endpoint, "--port", str(port)]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            if not any("Running on" in line for line in process.stdout):
                log.seek(0)
                raise RuntimeError(f"the page did not start:\n{log.read()[-3000:]}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def page_url(service: RunningService) -> Iterator[str]:
    with start_page(service.url) as url:
        yield url


@pytest.fixture
def page(browser: Browser, page_url: str) -> Iterator[Page]:
    with opened(browser, page_url, LAPTOP) as page:
        yield page


@contextmanager
def opened(browser: Browser, url: str, viewport: dict[str, int]) -> Iterator[Page]:
    context = browser.new_context(viewport=viewport, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(url)
    yield page
    context.close()
    assert not problems


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "discs.png"
    file.write_bytes(encoded(picture(77, IMAGE_SIZE)))
    return file


def upload(page: Page, photo: Path, viewer: str) -> Locator:
    """Pick a photo and wait until the viewer of the open tab shows it."""
    page.locator("#upload input[type=file]").set_input_files(photo)
    canvas = page.locator(f"#{viewer} canvas")
    expect(canvas).to_be_visible()
    return canvas


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def summary(page: Page, viewer: str) -> str:
    return page.locator(f"#{viewer} .summary").inner_text()


def set_slider(page: Page, viewer: str, name: str, value: float) -> None:
    slider = page.locator(f"#{viewer} input[name={name}]")
    slider.evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', {bubbles: true})) }", value
    )


def find_all_masks(page: Page, viewer: str) -> None:
    """The plain automatic masks, of which even a model with random weights finds many."""
    page.locator("#method").get_by_text("Every mask").click()
    page.locator("#find-entities").click()
    expect(page.locator(f"#{viewer} .summary")).to_contain_text("covered")


def download_coco(page: Page, viewer: str) -> dict[str, Any]:
    """The COCO file of a viewer."""
    with page.expect_download() as download:
        page.locator(f"#{viewer} [data-action=coco]").click()
    assert download.value.suggested_filename == "discs.coco.json"
    content: dict[str, Any] = json.loads(Path(download.value.path()).read_text())
    return content


def test_entities_are_shown_filtered_and_downloaded(page: Page, photo: Path, tmp_path: Path) -> None:
    viewer = "entities-viewer"
    canvas = upload(page, photo, viewer)
    find_all_masks(page, viewer)
    shown, total = map(int, re.match(r"(\d+) of (\d+)", summary(page, viewer)).groups())  # type: ignore[union-attr]
    assert shown == total >= 1
    everything = download_coco(page, viewer)["annotations"]
    assert len(everything) == total

    # Hovering shows a mask and its scores; leaving hides them.
    card = page.locator(f"#{viewer} .card")
    box = canvas.bounding_box()
    assert box is not None
    ys, xs = np.nonzero(decode_mask(everything[0]["segmentation"]))
    middle = len(xs) // 2
    across, down = (xs[middle] + 0.5) / IMAGE_SIZE[0], (ys[middle] + 0.5) / IMAGE_SIZE[1]
    page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
    expect(card).to_contain_text("predicted IoU")

    # Filters work without another request.
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    threshold = 0.5 * min(item["score"] for item in everything) + 0.5 * max(item["score"] for item in everything)
    threshold = round(threshold, 2)
    set_slider(page, viewer, "score", threshold)
    kept = sum(item["score"] >= threshold for item in everything)
    assert summary(page, viewer).startswith(f"{kept} of {total}")
    assert not [url for url in requests if "queue" in url or "api" in url]

    # The download is what is on the screen.
    coco = download_coco(page, viewer)
    assert len(coco["annotations"]) == kept
    assert (coco["images"][0]["width"], coco["images"][0]["height"]) == IMAGE_SIZE
    for annotation in coco["annotations"]:
        assert decode_mask(annotation["segmentation"]).sum() == annotation["area"]
    with page.expect_download() as download:
        page.locator(f"#{viewer} [data-action=png]").click()
    assert Image.open(download.value.path()).size == IMAGE_SIZE
    page.screenshot(path=tmp_path / "entities.png", full_page=True)


def test_masks_are_drawn_where_the_service_says(page: Page, photo: Path) -> None:
    viewer = "entities-viewer"
    upload(page, photo, viewer)
    find_all_masks(page, viewer)
    set_slider(page, viewer, "opacity", 0.9)
    coco = download_coco(page, viewer)
    with page.expect_download() as download:
        page.locator(f"#{viewer} [data-action=png]").click()
    drawn = np.asarray(Image.open(download.value.path()).convert("RGB")).astype(int)
    plain = np.asarray(picture(77, IMAGE_SIZE)).astype(int)
    changed = np.abs(drawn - plain).max(axis=2) > 12
    masks = np.any([decode_mask(item["segmentation"]) for item in coco["annotations"]], axis=0)
    # A colour may be that of the picture by chance, and JPEG may tint a border pixel.
    assert (changed == masks).mean() > 0.95


def test_clicks_make_a_mask_that_can_be_refined_and_kept(page: Page, photo: Path, tmp_path: Path) -> None:
    viewer = "click-viewer"
    open_tab(page, "Click")
    canvas = upload(page, photo, viewer)
    box = canvas.bounding_box()
    assert box is not None
    canvas.click(position={"x": box["width"] * 0.4, "y": box["height"] * 0.5})
    candidates = page.locator(f"#{viewer} .candidates button")
    expect(candidates.first).to_be_visible()
    assert candidates.count() >= 2
    assert candidates.nth(0).get_attribute("aria-pressed") == "true"
    candidates.nth(1).click()
    assert candidates.nth(1).get_attribute("aria-pressed") == "true"
    page.screenshot(path=tmp_path / "click.png", full_page=True)

    page.locator(f"#{viewer} [data-tool=remove]").click()
    canvas.click(position={"x": box["width"] * 0.1, "y": box["height"] * 0.1})
    expect(page.locator(f"#{viewer} .summary")).to_contain_text("embedding reused")

    page.locator(f"#{viewer} [data-action=keep]").click()
    expect(page.locator(f"#{viewer} .summary")).to_contain_text("1 kept")
    page.locator(f"#{viewer} [data-tool=box]").click()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.8 * box["height"], steps=4)
    page.mouse.up()
    expect(candidates.first).to_be_visible()
    assert len(download_coco(page, viewer)["annotations"]) == 2


def test_classes_have_a_legend_and_a_map(page: Page, photo: Path, tmp_path: Path) -> None:
    viewer = "classes-viewer"
    open_tab(page, "Your classes")
    upload(page, photo, viewer)
    page.locator("#find-classes").click()
    chips = page.locator(f"#{viewer} .chip")
    expect(chips.first).to_be_visible()
    set_slider(page, viewer, "score", 0)
    assert [text.split()[0] for text in chips.all_inner_texts()] == ["disc", "field"]
    before = int(summary(page, viewer).split()[0])
    largest = max(range(2), key=lambda i: int(chips.nth(i).inner_text().split()[1]))
    chips.nth(largest).click()
    assert int(summary(page, viewer).split()[0]) < before
    chips.nth(largest).click()
    page.screenshot(path=tmp_path / "classes.png", full_page=True)

    # The map has one plain colour for every class: where masks overlap, that of the highest score.
    page.locator(f"#{viewer} [data-action=map]").click()
    set_slider(page, viewer, "opacity", 0.9)
    expected = np.zeros(IMAGE_SIZE[::-1], dtype=int)
    for item in sorted(download_coco(page, viewer)["annotations"], key=lambda item: item["score"]):
        expected[decode_mask(item["segmentation"])] = item["category_id"]
    with page.expect_download() as download:
        page.locator(f"#{viewer} [data-action=png]").click()
    drawn = np.asarray(Image.open(download.value.path()).convert("RGB"))
    colours = [np.unique(drawn[expected == value], axis=0) for value in np.unique(expected)]
    assert [len(colour) for colour in colours] == [1] * len(colours)
    assert len(np.unique(np.concatenate(colours), axis=0)) == len(colours) > 1


def test_what_is_no_image_is_said_in_plain_words(page: Page, tmp_path: Path) -> None:
    page.locator("#find-entities").click()
    expect(page.locator("#entities-viewer .notice")).to_have_text("Pick an image first.")
    broken = tmp_path / "broken.png"
    broken.write_bytes(encoded(picture(0))[:60])
    page.locator("#upload input[type=file]").set_input_files(broken)
    expect(page.locator("#entities-viewer .notice")).to_contain_text("cannot be opened")


def test_it_fits_a_phone(browser: Browser, page_url: str, photo: Path, tmp_path: Path) -> None:
    with opened(browser, page_url, PHONE) as page:
        upload(page, photo, "entities-viewer")
        page.locator("#find-entities").click()
        expect(page.locator("#entities-viewer .summary")).to_contain_text("covered")
        page.screenshot(path=tmp_path / "phone.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_service_that_is_down_is_said_so(browser: Browser, photo: Path) -> None:
    with start_page(f"http://127.0.0.1:{free_port()}") as url, opened(browser, url, LAPTOP) as page:
        expect(page.locator("#status")).to_contain_text("does not answer")
        upload(page, photo, "entities-viewer")
        page.locator("#find-entities").click()
        expect(page.locator("#entities-viewer .notice")).to_contain_text("Is it running?")
