"""The page in a real browser, against the real service: upload, masks, filter, click, classes, download."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from everymask.masks.rle import decode_mask
from tests.free_ports import free_port
from tests.serve.pictures import encoded, picture
from tests.serve.running_service import RunningService
from tests.ui.browsing import (
    LAPTOP,
    download_coco,
    find_all_masks,
    open_tab,
    opened,
    set_slider,
    start_page,
    summary,
    upload,
)

pytestmark = [pytest.mark.serve, pytest.mark.browser]

PHONE = {"width": 390, "height": 844}
IMAGE_SIZE = (240, 160)


@pytest.fixture(scope="module")
def page_url(service: RunningService) -> Iterator[str]:
    with start_page(service.url) as url:
        yield url


@pytest.fixture
def page(browser: Browser, page_url: str) -> Iterator[Page]:
    with opened(browser, page_url, LAPTOP) as page:
        yield page


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "discs.png"
    file.write_bytes(encoded(picture(77, IMAGE_SIZE)))
    return file


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
    expect(page.locator(f"#{viewer} .summary")).to_have_attribute(
        "title", "The service had embedded this image before."
    )

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
    expect(page.locator("#names")).to_be_hidden()  # this service answers none
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
