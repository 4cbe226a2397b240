"""Records survive the table, and the table is the one the design names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from everymask.errors import InputError
from everymask.labels.mask_columns import masks_of_rows
from everymask.labels.rows import ImageRow, from_batch, to_table
from everymask.labels.schema import SCHEMA
from everymask.masks.rle import decode_mask, encode_mask
from tests.labels.examples import images, labels


@pytest.mark.parametrize("classes", [False, True])
def test_records_survive_the_table(classes: bool) -> None:
    assert from_batch(to_table(images(classes))) == images(classes)


def test_what_was_missed_survives_the_table() -> None:
    found = ImageRow("a", "/a", replace(labels(classes=True), missed=1.625))
    assert from_batch(to_table([found])) == [found]


def test_presence_survives_the_table_and_makes_sense() -> None:
    found = ImageRow("a", "/a", replace(labels(classes=True), presence=(1.0, 0.0)))
    other = ImageRow("b", "/b", labels(classes=True))
    assert from_batch(to_table([found, other])) == [found, other]
    for presence in ((1.5,), (-0.5,), (float("nan"),), (None,)):
        table = to_table([replace(found, labels=replace(labels(), presence=presence))])
        with pytest.raises(InputError, match=r"presence is .* each class has a number from 0 to 1"):
            from_batch(table)


def test_the_table_uses_sams_names_and_xywh_boxes() -> None:
    table = to_table(images())
    assert table.schema == SCHEMA
    row = table.to_pylist()[0]
    assert (row["width"], row["height"], row["status"], row["error"]) == (60, 40, "ok", None)
    x0, y0, x1, y1 = labels().masks[0].box_xyxy
    assert row["masks"][0]["bbox"] == [x0, y0, x1 - x0, y1 - y0]
    assert row["masks"][0]["rle"]["size"] == [40, 60]


def test_no_mask_is_an_empty_list_and_an_error_is_null() -> None:
    rows = to_table(images()).to_pylist()
    assert rows[1]["masks"] == []
    assert rows[1]["status"] == "ok"
    assert rows[2]["masks"] is None
    assert rows[2]["status"] == "error"
    assert rows[2]["width"] is None


def test_rows_hold_no_secret_of_an_address() -> None:
    (row,) = to_table([ImageRow("x", "https://h/x.jpg?sig=abc", None, "https://t@h/ answers 403")]).to_pylist()
    assert (row["uri"], row["error"]) == ("https://h/x.jpg?sig=***", "https://***@h/ answers 403")


def test_an_image_has_either_labels_or_an_error() -> None:
    with pytest.raises(ValueError, match="either labels or an error"):
        ImageRow("x", "x", labels(), "and an error")
    with pytest.raises(ValueError, match="either labels or an error"):
        ImageRow("x", "x", None, None)


@pytest.mark.parametrize(
    "name", ["stability_score", "score", "predicted_iou", "uncertainty", "agreement", "coverage", "missed"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_an_error_of_its_name(name: str, value: float) -> None:
    table = to_table(images(classes=True)[:1])
    (row,) = table.to_pylist()
    (row if name in row else row["masks"][0])[name] = value
    with pytest.raises(InputError, match=f"its {name} is {value}, which is no number"):
        from_batch(pa.Table.from_pylist([row], schema=table.schema))


@pytest.mark.parametrize("classes", [False, True])
def test_sound_masks_are_read_column_by_column(classes: bool) -> None:
    table = to_table([*images(classes), *images(classes)])
    found = masks_of_rows(table.slice(1))
    assert found == [image.labels.masks if image.labels else () for image in [*images(classes), *images(classes)][1:]]
    (batch,) = table.combine_chunks().to_batches()
    assert masks_of_rows(batch.slice(1)) == found


def test_an_empty_mask_is_read_row_by_row() -> None:
    rle = encode_mask(np.zeros((40, 60), dtype=np.bool_))
    mask = replace(labels().masks[0], rle=rle, box_xyxy=(0, 0, 0, 0), area=0)
    empty = ImageRow("a", "/a", replace(labels(), masks=(mask,)))
    table = to_table([empty, *images()])
    assert masks_of_rows(table) is None
    assert from_batch(table) == [empty, *images()]


@pytest.mark.parametrize(
    ("altered", "problem"),
    [
        ({"area": 605}, "area 605"),
        ({"area": 0}, "area 0"),
        ({"bbox": [6, 4, 32, 32]}, "bbox"),
        ({"bbox": [5, 4, 32]}, "bbox"),
        ({"point_coords": [float("nan"), 4.5]}, "has the point"),
        ({"mask_id": "A" * 24}, "hexadecimal"),
        ({"class_id": 3}, "one is missing"),
        ({"class_id": -1, "class_name": "cat"}, "class_id -1"),
        ({"class_id": 0, "class_name": " "}, "a name has"),
        ({"rle": {"size": [60, 40]}}, "size"),
        ({"rle": {"counts": "~"}}, "no run-length encoding"),
        ({"rle": {"counts": "00"}}, "no run-length encoding"),
    ],
)
def test_an_altered_mask_among_sound_ones_is_named_with_its_image(altered: dict[str, Any], problem: str) -> None:
    table = to_table(images())
    rows = table.to_pylist()
    place, row = next((place, row) for place, row in enumerate(rows) if row["masks"])
    mask = row["masks"][0]
    rows[place]["masks"][0] = mask | altered | {"rle": mask["rle"] | altered.get("rle", {})}
    with pytest.raises(InputError, match=f"of image {row['image_id']!r}: .*{problem}"):
        from_batch(pa.Table.from_pylist(rows, schema=table.schema))


def test_counts_that_end_before_their_image_make_no_sense() -> None:
    table = to_table(images())
    rows = table.to_pylist()
    (mask, *_) = next(row["masks"] for row in rows if row["masks"])
    mask["rle"]["counts"] = encode_mask(decode_mask(mask["rle"])[:, :-1])["counts"]
    with pytest.raises(InputError, match="no run-length encoding of its image"):
        from_batch(pa.Table.from_pylist(rows, schema=table.schema))
