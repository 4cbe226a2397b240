"""The polygons that trainers fill are the masks that were stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.measure import points_in_poly

from everymask.errors import ConfigurationError
from everymask.formats.yolo import yolo_polygon
from everymask.labels.rows import LabelledImage, to_table
from everymask.labels.store import LabelStore
from tests.formats.exporting import run_export
from tests.labels.examples import labels, ring_and_disc


def fill(values: list[float], height: int, width: int) -> NDArray[np.bool_]:
    """Fill one line's polygon by the even-odd rule: (height, width) bool, whether it holds each pixel's centre."""
    corners = np.array(values).reshape(-1, 2) * (width, height)
    y, x = np.mgrid[:height, :width] + 0.5
    inside: NDArray[np.bool_] = points_in_poly(np.stack([x, y], axis=-1).reshape(-1, 2), corners)
    return inside.reshape(height, width)


def test_a_line_fills_to_its_mask_with_holes_and_parts(classes: LabelStore, tmp_path: Path) -> None:
    run_export(classes, "yolo", tmp_path / "yolo")
    lines = (tmp_path / "yolo" / "labels" / "a" / "1.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    for line, mask in zip(lines, ring_and_disc(), strict=True):
        np.testing.assert_array_equal(fill([float(value) for value in line.split()[1:]], 40, 60), mask)


def test_images_without_masks_have_an_empty_file_and_failures_none(classes: LabelStore, tmp_path: Path) -> None:
    counts = run_export(classes, "yolo", tmp_path / "yolo")
    assert (tmp_path / "yolo" / "labels" / "b" / "1.txt").read_text() == ""
    assert not (tmp_path / "yolo" / "labels" / "c.txt").exists()
    assert (counts.images, counts.masks, counts.errors) == (2, 2, 1)


def test_names_are_listed(classes: LabelStore, entities: LabelStore, tmp_path: Path) -> None:
    run_export(classes, "yolo", tmp_path / "classes-yolo")
    assert '  0: "cat"\n  1: "dog"\n' in (tmp_path / "classes-yolo" / "data.yaml").read_text()
    run_export(entities, "yolo", tmp_path / "entities-yolo")
    assert '  0: "entity"\n' in (tmp_path / "entities-yolo" / "data.yaml").read_text()


def test_images_that_differ_in_their_ending_only_are_refused(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "store"))
    store.write_part(to_table(LabelledImage(name, name, labels()) for name in ("a.jpg", "a.png")))
    with pytest.raises(ConfigurationError, match=r"these collide: a\.jpg and a\.png"):
        run_export(store, "yolo", tmp_path / "yolo")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_corners_stay_on_pixel_corners() -> None:
    corners = yolo_polygon(labels().masks[0])
    np.testing.assert_array_equal(corners, corners.round())
    assert corners.min() >= 0
    assert (corners <= (60, 40)).all()
