"""The page as a person uses it, in a real browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

from tests.free_ports import free_port
from tests.serve.running_service import API_KEY, REPOSITORY

LAPTOP = {"width": 1366, "height": 900}
WAIT_MS = 120_000


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


def upload(page: Page, photo: Path, viewer: str) -> Locator:
    """Pick a photo and wait until the viewer of the open tab shows it."""
    page.locator("#upload input[type=file]").set_input_files(photo)
    canvas = page.locator(f"#{viewer} canvas")
    expect(canvas).to_be_visible()
    return canvas


def expect_no_broken_image(page: Page) -> None:
    """Wait until every image of the page is drawn."""
    page.wait_for_function("() => [...document.images].every((image) => image.complete && image.naturalWidth > 0)")


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
