"""Masks from elsewhere: one sentence for what is none, and never another end of the process."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from everymask.errors import ConfigurationError, InputError
from everymask.images.decoding import ImageLimits
from everymask.masks.checked import (
    check_class,
    checked_size,
    fill_polygons,
    rle_from_box_runs,
    rle_from_coco,
)
from everymask.masks.rle import decode_mask, encode_mask, encoded_masks
from everymask.masks.runs import rle_runs
from everymask.records import MAX_IMAGE_PIXELS
from tests.formats.shapes import shapes

SIZE = (60, 80)
PIXELS = 60 * 80


@pytest.mark.parametrize("far", [1e8, 1e10, -1e9, 1e308, math.nan, math.inf, -math.inf, 161, -80.5])
def test_a_corner_far_away_or_nowhere_is_refused(far: float) -> None:
    with pytest.raises(InputError, match=r"a polygon has a corner (at \(.*\), far outside|that is no number)"):
        fill_polygons([[0.0, 0.0, far, 5.0, 10.0, 10.0]], SIZE)


def test_a_corner_a_little_outside_is_cut_off() -> None:
    assert fill_polygons([[-4, -4, 10, -4, 10, 10, -4, 10]], SIZE) == fill_polygons(
        [[0, 0, 10, 0, 10, 10, 0, 10]], SIZE
    )


def test_an_outline_without_an_end_is_refused() -> None:
    corners = np.tile([0.0, 0.0, 20000.0, 20000.0], 300).tolist()
    with pytest.raises(InputError, match=r"a polygon is 12,000,000 pixels long"):
        fill_polygons([corners], (20000, 20000))


def test_pycocotools_would_have_died_of_it() -> None:
    """The check holds something off: without it the process ends by a signal."""
    script = (
        "import resource; from pycocotools import mask; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); mask.frPyObjects([[0.0, 0.0, 1e8, 5.0, 10.0, 10.0]], 60, 80)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode < 0


@pytest.mark.parametrize(
    "polygons", [None, 5, "ring", [None], [["a", "b"] * 3], [[1, 2, 3]], [[[1, 2], [3, 4]]], [[1, 2, None] * 2], {}]
)
def test_what_is_no_polygon_is_refused(polygons: Any) -> None:
    with pytest.raises(InputError, match=r"no list of (rings|x and y)"):
        fill_polygons(polygons, SIZE)


@pytest.mark.parametrize(
    "runs",
    [
        [2**62 + 2**31, 2**62 + 2**31, 2**62, 2**62, PIXELS],
        [2**62, 2**62 + 2**30, 2**62 + 2**30, 2**62 - 2**31, PIXELS],
        [-5, PIXELS + 5],
        [2**70, PIXELS],
        [0.5, PIXELS - 0.5],
        [math.nan, PIXELS],
        ["1", str(PIXELS - 1)],
        [[PIXELS]],
        [],
        None,
        [PIXELS - 1],
        [2**64 - 1, 1, PIXELS],
        "ooooooO1",
        "P" * 50,
        "0",
        "",
    ],
)
def test_runs_that_do_not_fill_their_image_are_refused(runs: Any) -> None:
    with pytest.raises(InputError, match=r"do not add up to|no list of whole numbers|no run-length encoding"):
        rle_from_coco({"size": list(SIZE), "counts": runs}, SIZE)


@pytest.mark.parametrize("mask", shapes().values(), ids=list(shapes()))
def test_sound_masks_are_taken_as_they_are(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    rle = encode_mask(mask)
    ys, xs = np.nonzero(mask)
    box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    found = encoded_masks([rle["counts"]], [SIZE[0]])
    assert (found.pixels[0], found.areas[0], tuple(found.boxes_xyxy[0])) == (PIXELS, mask.sum(), box)
    for counts in (rle["counts"], rle_runs(rle).tolist()):
        assert rle_from_coco({"size": list(SIZE), "counts": counts}, SIZE) == rle
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff([0, *([0] if flat[0] else []), *edges, flat.size]).tolist()
    assert (decode_mask(rle_from_box_runs(runs, SIZE, (0, 0), SIZE)) == mask).all()


def test_extents_of_many_masks_are_those_of_each() -> None:
    rles = [encode_mask(mask) for mask in (*shapes().values(), np.zeros(SIZE, dtype=np.bool_))]
    texts = [rle["counts"] for rle in rles]
    texts.insert(3, "P" * 50)  # makes no sense, and hides nothing of its neighbours
    together = encoded_masks(texts, [SIZE[0]] * len(texts))
    for number, text in enumerate(texts):
        alone = encoded_masks([text], [SIZE[0]])
        assert together.pixels[number] == alone.pixels[0]
        if number != 3:
            assert together.areas[number] == alone.areas[0]
            assert together.boxes_xyxy[number].tolist() == alone.boxes_xyxy[0].tolist()


@pytest.mark.parametrize(
    ("runs", "box", "corner"),
    [
        ([0, 10**12], (10**6, 10**6), (0, 0)),
        ([0, 4], (2, 2), (99999, 0)),
        ([0, 4], (2, 2), (-1, 0)),
        ([2**62, 2**62, 2**62, 2**62, 4], (2, 2), (0, 0)),
        ([0, 5], (2, 2), (0, 0)),
        ([0, 0], (0, 0), (0, 0)),
    ],
)
def test_a_box_of_runs_lies_in_its_image_and_is_filled(runs: Any, box: Any, corner: Any) -> None:
    with pytest.raises(InputError, match=r"does not lie in its image|do not add up to"):
        rle_from_box_runs(runs, box, corner, SIZE)


@pytest.mark.parametrize(
    "size", [(0, 0), (-1, 80), (2**20, 2**20), (40_000, 40_000), (None, 80), (True, 80), ("60", 80), (60.0, 80)]
)
def test_a_size_of_nothing_or_of_too_much_is_refused(size: Any) -> None:
    with pytest.raises(InputError, match=r"its image has .* pixels"):
        checked_size(*size)


@pytest.mark.parametrize("size", [(1, 1), (1, 80), (60, 1), (2**14, 2**15)])
def test_a_size_of_one_pixel_up_to_the_most_is_taken(size: tuple[int, int]) -> None:
    assert checked_size(*size) == size


def test_no_larger_image_is_labelled_than_masks_are_kept_of() -> None:
    ImageLimits(max_pixels=MAX_IMAGE_PIXELS)
    with pytest.raises(ConfigurationError, match=r"max-pixels must be at most 536,870,912"):
        ImageLimits(max_pixels=MAX_IMAGE_PIXELS + 1)


@pytest.mark.parametrize(
    "of",
    [(-1, "cat"), (2**31, "cat"), (1, None), (None, "cat"), (0, ""), (0, "c\x01at"), (0, "\ud800"), (0, "x" * 5000)],
)
def test_a_class_is_whole_in_range_and_text(of: tuple[Any, Any]) -> None:
    with pytest.raises(InputError):
        check_class(*of)


def test_common_names_are_classes() -> None:
    for name in ("cat", "Süßwasser fisch", "bæk\xa0ro", "चित्र", "a/b <c> & 'd'"):
        check_class(0, name)
    check_class(None, None)
