"""Corrections in a store that a stranger gave: a sentence for every file that makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everymask.errors import InputError
from everymask.labels.correction_log import SCHEMA, read_corrections
from everymask.labels.store import LabelStore
from everymask.masks.rle import encode_mask
from tests.formats.shapes import shape_store, shapes

SOUND = encode_mask(shapes()["ring"])


def store_with(folder: Path, metadata: bytes = b'{"corrections": 2}', **fields: Any) -> LabelStore:
    """A store whose only correction has one mask with other fields."""
    store = shape_store(folder)
    mask = {"action": "added", "mask_id": "0" * 24, "parent_id": None, "rle": SOUND, "class_id": 0}
    mask |= {"class_name": "cat", "iou": None} | {name: fields.pop(name) for name in list(fields) if name in MASK}
    row = {"image_id": "shapes/all.png", "content_sha256": None, "height": 60, "width": 80, "tool": "coco"}
    row |= {"annotator": None, "corrected_at": None, "imported_at": "x", "masks": [mask]}
    row |= {"entry_id": "e" * 32, "bases": []} | fields
    table = pa.Table.from_pylist([row], schema=SCHEMA).replace_schema_metadata({b"everymask": metadata})
    (Path(store.uri) / "corrections").mkdir()
    pq.write_table(table, Path(store.uri) / "corrections" / "import-000000.parquet")
    return store


MASK = ("action", "mask_id", "parent_id", "rle", "class_id", "class_name", "iou")


def test_a_sound_correction_is_read(tmp_path: Path) -> None:
    (correction,) = read_corrections(store_with(tmp_path)).values()
    assert correction.masks[0].rle == SOUND


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"rle": {"size": [60, 80], "counts": "ooooooO1ooooooO1"}}, "no run-length encoding of its image"),
        ({"rle": {"size": [60, 80], "counts": "P" * 300}}, "no run-length encoding of its image"),
        ({"rle": {"size": [60, 80], "counts": None}}, "no run-length encoding of its image"),
        ({"rle": {"size": [6000, 8000], "counts": "0"}}, r"a mask has size \[6000, 8000\]"),
        ({"rle": {"size": [-1, 80], "counts": "04"}}, r"a mask has size \[-1, 80\]"),
        ({"rle": {"size": None, "counts": "04"}}, "a mask has size None"),
        ({"rle": {"size": [0, 0], "counts": "01"}, "height": 0, "width": 0}, "its image has 0 x 0 pixels"),
        ({"height": 40_000, "width": 40_000}, "its image has 40000 x 40000 pixels"),
        ({"rle": None}, "a mask is null"),
        ({"masks": [None]}, "a mask is null"),
        ({"class_id": -1}, "class_id -1"),
        ({"class_id": 2_000_000_000}, "class_id 2000000000"),
        ({"class_name": None}, "one is missing"),
        ({"class_name": "c\nat"}, r"holds '\\n'"),
        ({"action": "praised"}, "'praised'"),
        ({"mask_id": "<"}, "has the ids"),
        ({"parent_id": "me"}, "has the ids"),
        ({"iou": float("nan")}, "its iou is nan"),
        ({"member": {"kind": "range", "offset": -1, "size": 5}}, "says of no place in a file"),
        ({"member": {"kind": "elsewhere"}}, "says of no place in a file"),
        ({"drawn_as": ["star"]}, "was drawn as 'star'"),
        ({"drawn_as": ["box", "box"]}, ""),
        ({"metadata": b'{"corrections": "x"}'}, ""),
        ({"metadata": b'{"corrections": null}'}, ""),
        ({"metadata": b"[]"}, ""),
        ({"metadata": b"5"}, ""),
        ({"metadata": b"{}"}, "it has no corrections"),
        ({"metadata": b"{"}, ""),
    ],
)
def test_what_makes_no_sense_is_a_sentence(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    store = store_with(tmp_path, **fields)
    with pytest.raises(
        InputError, match=rf"import-000000\.parquet is damaged \(.*{problem}.*; restore it, or move"
    ) as error:
        read_corrections(store)
    assert "\n" not in str(error.value)
