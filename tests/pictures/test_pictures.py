"""Colours tell masks apart, overlays show what labels say, pages hold everything they need."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from everymask.images.resizing import shrink
from everymask.labels.rows import ImageRow
from everymask.pictures.colours import mask_colours
from everymask.pictures.contact_sheet import contact_sheet
from everymask.pictures.overlay import overlay
from everymask.pictures.report import ReportItem, html_report
from everymask.records import ImageLabels
from tests.labels.examples import images, labels, mask_record, ring_and_disc

GREY = np.full((40, 60, 3), 128, np.uint8)


def test_colours_are_stable_distinct_and_never_grey() -> None:
    colours = mask_colours(40).astype(int)
    np.testing.assert_array_equal(colours[:7], mask_colours(7))
    apart = np.abs(colours[:, None] - colours[None]).sum(-1) + 1000 * np.eye(40, dtype=int)
    assert apart.min() > 8
    assert apart[np.arange(39), np.arange(1, 40)].min() > 120
    assert (colours.max(1) - colours.min(1)).min() > 40
    assert mask_colours(0).shape == (0, 3)


def test_every_mask_has_its_colour_and_the_rest_is_darker() -> None:
    ring, blobs = ring_and_disc()
    picture = overlay(GREY, labels(), alpha=1.0).astype(int)
    colours = mask_colours(2).astype(int)
    inner_ring, inner_blobs = picture[19, 8], picture[31, 50]
    np.testing.assert_array_equal([inner_ring, inner_blobs], colours)
    assert (picture[~(ring | blobs)] == 96).all()


def test_contours_lie_on_the_mask_and_are_lighter_than_the_fill() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    picture = overlay(np.zeros((20, 20, 3), np.uint8), ImageLabels((20, 20), (mask_record(mask, 1),), 0.25))
    edge, inside = picture[5, 5:15].astype(int), picture[10, 10].astype(int)
    assert (edge.sum(-1) > inside.sum() + 100).all()
    assert not picture[4, 4:16].any()


def test_a_small_mask_shows_on_top_of_a_large_one_around_it() -> None:
    whole, dot = np.ones((20, 20), bool), np.zeros((20, 20), bool)
    dot[8:12, 8:12] = True
    nested = ImageLabels((20, 20), (mask_record(whole, 0.9), mask_record(dot, 0.1)), 1.0)
    picture = overlay(np.zeros((20, 20, 3), np.uint8), nested, alpha=1.0)
    np.testing.assert_array_equal(picture[9, 9], mask_colours(2)[1])


def test_masks_of_one_class_share_a_colour() -> None:
    ring, blobs = ring_and_disc()
    same = ImageLabels((40, 60), (mask_record(ring, 0.9, 1), mask_record(blobs, 0.8, 1)), 0.5)
    picture = overlay(GREY, same, alpha=1.0)
    np.testing.assert_array_equal(picture[19, 8], picture[31, 50])


def test_no_mask_leaves_the_image_as_it_is() -> None:
    np.testing.assert_array_equal(overlay(GREY, ImageLabels((40, 60), (), 0.0)), GREY)


def test_overlays_shrink_to_the_longer_side() -> None:
    assert overlay(GREY, labels(), max_side=30).shape == (20, 30, 3)
    assert overlay(np.zeros((1, 500, 3), np.uint8), ImageLabels((1, 500), (), 0.0), max_side=50).shape == (1, 50, 3)
    assert shrink(GREY, 1000) is GREY


def test_labels_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="its labels are for"):
        overlay(GREY[:10], labels())


def test_a_contact_sheet_has_a_cell_for_each_picture() -> None:
    red = np.zeros((10, 20, 3), np.uint8)
    red[..., 0] = 255
    sheet = contact_sheet([red] * 5, ["caption"] * 4 + ["a/very/long/path" * 20], columns=2, cell=100)
    rows, columns = 3, 2
    assert sheet.shape == (rows * (100 + 26 + 12) + 12, columns * 112 + 12, 3)
    assert (sheet == (255, 0, 0)).all(-1).sum() == 5 * 10 * 20
    with pytest.raises(ValueError, match="make no contact sheet"):
        contact_sheet([], [])


class LooseEnds(HTMLParser):
    """Collects every address a page would fetch, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value is not None]

    def handle_data(self, data: str) -> None:
        self.text += data


def report(image_id: str = "a/1.jpg") -> tuple[LooseEnds, str]:
    item = ReportItem(ImageRow(image_id, "u", labels(classes=True), None, None, 0.5), GREY, GREY)
    page = html_report("My run", [("images", "2")], [item], images()[2:], note="1 of 2 are shown.")
    parser = LooseEnds()
    parser.feed(page)
    return parser, page


def test_a_report_carries_its_pictures_and_fetches_nothing() -> None:
    parser, page = report()
    assert len(parser.addresses) == 2
    assert all(address.startswith("data:image/jpeg;base64,") for address in parser.addresses)
    assert "<script" not in page
    assert not re.search(r"url\(|@import", page)
    assert 'name="viewport"' in page


def test_a_report_says_masks_coverage_seconds_and_errors() -> None:
    parser, _ = report()
    for words in ("My run", "a/1.jpg", "2 masks", "0.50 s", "60 x 40", "cat, dog", "the file is empty (0 bytes)"):
        assert words in parser.text
    assert f"{labels().coverage:.0%} covered" in parser.text


def test_names_cannot_break_out_of_the_page() -> None:
    parser, page = report('<img src="http://evil/x">.jpg')
    assert len(parser.addresses) == 2
    assert '<img src="http://evil' not in page
