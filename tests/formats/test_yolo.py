"""What trainers draw of YOLO's lines is the mask that was stored, and data.yaml names no folder of this machine."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from everymask.errors import ConfigurationError
from everymask.formats.yolo import pixel_tokens, read_pixels
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.pixel_polygons import fill_pixel_polygons
from everymask.masks.rle import decode_mask
from everymask.records import ImageLabels
from tests.formats.exporting import run_export
from tests.formats.shapes import HEIGHT, WIDTH, shape_store, shapes
from tests.labels.examples import labels, mask_record, ring_and_disc


def drawn(line: str, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """What Ultralytics draws of a line: coordinates cut to pixels, filled with their outline."""
    tokens = line.split()[1:]
    x, y = read_pixels(tokens[0::2], size_hw[1]), read_pixels(tokens[1::2], size_hw[0])
    return decode_mask(fill_pixel_polygons([np.stack([x, y], axis=1)], size_hw)[0])


def test_the_reader_finds_the_pixels_that_were_written() -> None:
    """The export measures its loss on the pixels it wrote, so 32-bit floats must lead back to them."""
    for length in (*range(1, 500), 4000, 6000, 12_345, 65_535):
        np.testing.assert_array_equal(read_pixels(pixel_tokens(length), length), np.arange(length))


def test_a_line_is_drawn_as_its_mask_with_its_hole(classes: LabelStore, tmp_path: Path) -> None:
    run_export(classes, "yolo", tmp_path / "yolo")
    lines = (tmp_path / "yolo" / "labels" / "a" / "1.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    np.testing.assert_array_equal(drawn(lines[0], (40, 60)), ring_and_disc()[0])
    second = drawn(lines[1], (40, 60)) & ring_and_disc()[1]
    assert second.sum() > ring_and_disc()[1].sum() / 2


def test_every_shape_of_one_part_comes_back_to_the_pixel(tmp_path: Path) -> None:
    report = run_export(shape_store(tmp_path), "yolo", tmp_path / "yolo")
    lines = (tmp_path / "yolo" / "labels" / "shapes" / "all.txt").read_text().splitlines()
    for line, (name, mask) in zip(lines, shapes().items(), strict=True):
        found = drawn(line, (HEIGHT, WIDTH))
        if name == "two parts":
            # A line from part to part, 14 pixels long, is the price of one object a line.
            assert (found & ~mask).sum() == 14
            assert report.loss.worst_iou == mask.sum() / found.sum()
        else:
            np.testing.assert_array_equal(found, mask, err_msg=name)
    assert report.loss.changed == 1
    assert any("lines that join the parts of a mask are drawn" in note for note in report.notes)


def disc_and_line(scale: int) -> dict[str, NDArray[np.bool_]]:
    """Shapes whose outlines along pixel edges came back at IoU 0.974 and 0.33."""
    y, x = np.mgrid[: 120 * scale, : 160 * scale]
    across = np.zeros_like(x, dtype=np.bool_)
    across[40 * scale, 10 * scale : 100 * scale] = True
    distance = np.hypot(y - 60 * scale, x - 80 * scale)
    return {"disc": distance < 50 * scale, "ring": (distance < 50 * scale) & (distance > 25 * scale), "line": across}


@pytest.mark.parametrize("scale", [1, 4])
def test_discs_rings_and_lines_come_back_to_the_pixel(tmp_path: Path, scale: int) -> None:
    store = LabelStore(str(tmp_path / "store"))
    cases = disc_and_line(scale)
    rows = [
        ImageRow(f"{name}.png", name, ImageLabels(mask.shape, (mask_record(mask, 0.5),), 0.1))
        for name, mask in cases.items()
    ]
    store.write_part(to_table(rows))
    report = run_export(store, "yolo", tmp_path / "yolo")
    assert (report.loss.masks, report.loss.changed) == (3, 0)
    assert not any("parts of a mask" in note for note in report.notes)
    for name, mask in cases.items():
        line = (tmp_path / "yolo" / "labels" / f"{name}.txt").read_text()
        np.testing.assert_array_equal(drawn(line, mask.shape), mask)
        values = np.array([float(value) for value in line.split()[1:]]).reshape(-1, 2)
        # Ultralytics makes boxes of the corners, and drops those without area.
        assert (np.ptp(values, axis=0) > 0).all()


def test_a_tolerance_spares_corners(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "store"))
    mask = disc_and_line(4)["disc"]
    store.write_part(to_table([ImageRow("a.png", "a", ImageLabels(mask.shape, (mask_record(mask, 0.5),), 0.1))]))
    sizes = []
    for tolerance_px in (0.0, 1.0):
        output = tmp_path / f"yolo{tolerance_px}"
        report = run_export(store, "yolo", output, tolerance_px=tolerance_px)
        sizes.append((output / "labels" / "a.txt").stat().st_size)
        assert report.loss.worst_iou >= 0.99
    assert sizes[1] < sizes[0] / 3


def test_boxes_are_centres_and_sizes(classes: LabelStore, tmp_path: Path) -> None:
    run_export(classes, "yolo", tmp_path / "yolo", task="detect")
    (first, second) = (tmp_path / "yolo" / "labels" / "a" / "1.txt").read_text().splitlines()
    x0, y0, x1, y1 = labels().masks[0].box_xyxy
    wanted = [(x0 + x1) / 120, (y0 + y1) / 80, (x1 - x0) / 60, (y1 - y0) / 40]
    np.testing.assert_allclose([float(value) for value in first.split()[1:]], wanted, atol=1e-6)
    assert len(second.split()) == 5


def test_images_without_masks_have_an_empty_file_and_failures_none(classes: LabelStore, tmp_path: Path) -> None:
    counts = run_export(classes, "yolo", tmp_path / "yolo")
    assert (tmp_path / "yolo" / "labels" / "b" / "1.txt").read_text() == ""
    assert not (tmp_path / "yolo" / "labels" / "c.txt").exists()
    assert (counts.images, counts.masks, counts.errors) == (2, 2, 1)


def test_data_yaml_names_classes_and_no_path(classes: LabelStore, entities: LabelStore, tmp_path: Path) -> None:
    run_export(classes, "yolo", tmp_path / "classes-yolo")
    content = yaml.safe_load((tmp_path / "classes-yolo" / "data.yaml").read_text())
    assert content == {"train": "images", "val": "images", "nc": 2, "names": {0: "cat", 1: "dog"}}
    run_export(entities, "yolo", tmp_path / "entities-yolo")
    assert '  0: "entity"\n' in (tmp_path / "entities-yolo" / "data.yaml").read_text()


def test_the_next_line_is_for_a_shell(classes: LabelStore, tmp_path: Path) -> None:
    output = tmp_path / "my data"
    report = run_export(classes, "yolo", output)
    (line,) = [note for note in report.notes if note.startswith("next: ")]
    assert shlex.split(line)[1:4] == ["yolo", "segment", "train"]
    assert f"data={output}/data.yaml" in shlex.split(line)
    assert any("images are not in the export" in note for note in report.notes)


def test_images_that_differ_in_their_ending_only_are_refused(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "store"))
    store.write_part(to_table(ImageRow(name, name, labels()) for name in ("a.jpg", "a.png")))
    with pytest.raises(ConfigurationError, match=r"these collide: a\.jpg and a\.png"):
        run_export(store, "yolo", tmp_path / "yolo")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
