"""Names typed into the page, in a real browser, answered by a small SAM 3 behind the service in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.backbone.sam3.tiny import save_tiny_sam3
from tests.free_ports import free_port
from tests.serve.local import listening, local_app
from tests.serve.pictures import encoded, picture
from tests.ui.browsing import LAPTOP, download_coco, open_tab, opened, start_page, upload

pytestmark = pytest.mark.browser

VIEWER = "classes-viewer"


@pytest.fixture(scope="module")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    weights = save_tiny_sam3(tmp_path_factory.mktemp("sam3"))
    settings = {"model": "sam3", "checkpoint": str(weights), "device": "cpu", "concepts": {"score_thresh": 0.2}}
    with listening(local_app(settings, None), free_port()) as service, start_page(service) as url:
        yield url


@pytest.fixture
def page(browser: Browser, page_url: str, tmp_path: Path) -> Iterator[Page]:
    photo = tmp_path / "discs.png"
    photo.write_bytes(encoded(picture(77, (240, 160))))
    with opened(browser, page_url, LAPTOP) as page:
        open_tab(page, "Your classes")
        upload(page, photo, VIEWER)
        yield page


def ask(page: Page, names: str) -> None:
    page.locator("#names input, #names textarea").fill(names)
    page.locator("#find-names").click()


def test_names_are_typed_and_found_without_training(page: Page, tmp_path: Path) -> None:
    box = page.locator("#names input, #names textarea")
    expect(box).to_have_attribute("placeholder", "cat, yellow school bus, pets=dog+hamster, -toy cat")
    box.fill("cat, animals=dog+bird, -toy cat")
    box.press("Enter")
    chips = page.locator(f"#{VIEWER} .chip")
    expect(chips).to_have_count(2)
    assert [chip.inner_text().split()[0] for chip in chips.all()] == ["cat", "animals"]
    assert all(chip.inner_text().endswith("%") for chip in chips.all()), "how surely the picture shows each"
    page.screenshot(path=tmp_path / "names.png", full_page=True)
    found = download_coco(page, VIEWER)
    assert found["annotations"]
    assert {item["name"] for item in found["categories"]} == {"cat", "animals"}
    # Other names are another question.
    ask(page, "bus")
    expect(chips).to_have_count(1)
    assert chips.first.inner_text().startswith("bus")


def test_names_of_no_use_are_one_sentence_and_what_was_found_stays(page: Page) -> None:
    notice = page.locator(f"#{VIEWER} .notice")
    ask(page, " ")
    expect(notice).to_have_text("Type names first, such as cat, yellow school bus.")
    ask(page, "cat")
    chips = page.locator(f"#{VIEWER} .chip")
    expect(chips).to_have_count(1)
    expect(notice).to_be_hidden()
    for names, sentence in (
        ("cat,,dog", "one of the names is empty"),
        ("School Bus, school  bus", "'School Bus' and 'school bus' are the same but for case and spaces"),
        ("x" * 80, "say it in fewer words"),
        ("-cat", "no class is named"),
    ):
        ask(page, names)
        expect(notice).to_contain_text("The service refused: ")
        expect(notice).to_contain_text(sentence)
    expect(chips).to_have_count(1)


def test_typing_is_not_disturbed_while_the_page_looks_after_the_service(page: Page) -> None:
    """The page asks every few seconds what the service is; what is half typed stays, and so does the cursor."""
    box = page.locator("#names input, #names textarea")
    box.click()
    box.press_sequentially("yellow sch")
    with page.expect_response(lambda response: "queue/join" in response.url):  # it has asked again
        pass
    box.press_sequentially("ool bus")
    assert box.input_value() == "yellow school bus"
