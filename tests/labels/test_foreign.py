"""Stores and parts that something else wrote or altered: one sentence, and never another end of the process."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everymask.errors import InputError
from everymask.labels.facts import read_facts
from everymask.labels.parts import DamagedPartError, ForeignPartError, read_batches, read_rows, verify
from everymask.labels.rows import from_batch, to_table
from everymask.labels.schema import SCHEMA
from everymask.labels.store import LabelStore
from tests.labels.examples import images

Change = Callable[[dict[str, Any]], None]


def mask_with(**fields: Any) -> Change:
    return lambda row: row["masks"][0].update(fields)


def rle_with(**fields: Any) -> Change:
    return lambda row: row["masks"][0]["rle"].update(fields)


CHANGES: list[tuple[Change, str]] = [
    (rle_with(size=[0, 0]), r"a mask has size \[0, 0\], its image has \[height, width\] \[40, 60\]"),
    (rle_with(size=[60, 40]), r"a mask has size \[60, 40\]"),
    (rle_with(size=None), "a mask has size None"),
    (rle_with(counts=None), "counts are no run-length encoding of its image"),
    (rle_with(counts=""), "counts are no run-length encoding"),
    (rle_with(counts="ooooooO1"), "counts are no run-length encoding"),
    (rle_with(counts="\x01\x02"), "counts are no run-length encoding"),
    (mask_with(rle=None), "a mask is null"),
    (mask_with(bbox=None), "a mask has no bbox"),
    (mask_with(score=None), "a mask has no score"),
    (mask_with(class_id=5_000_000, class_name="cat"), "a mask has class_id 5000000"),
    (mask_with(class_id=-1, class_name="cat"), "a mask has class_id -1"),
    (mask_with(class_id=1), "a mask has class_id 1 and class_name None"),
    (mask_with(class_id=1, class_name="c\x01at"), r"holds '\\x01', which no text can show"),
    (mask_with(score=float("nan")), "its score is nan"),
    (mask_with(predicted_iou=float("inf")), "its predicted_iou is inf"),
    (mask_with(uncertainty=float("nan")), "its uncertainty is nan"),
    (mask_with(bbox=[1000, 1000, 5, 5]), r"bbox \[1000, 1000, 5, 5\], its counts have .* the box \(5, 4, 37, 36\)"),
    (mask_with(bbox=[0, 0, 2**31 - 1, 2**31 - 1]), "its counts have"),
    (mask_with(bbox=[10, 10, -5, -5]), "its counts have"),
    (mask_with(bbox=[1, 2]), r"bbox \[1, 2\]"),
    (mask_with(bbox=[None] * 4), r"bbox \[None"),
    (mask_with(area=2**62), "its counts have area"),
    (mask_with(point_coords=[1.0]), r"point_coords \[1.0\]"),
    (mask_with(point_coords=[1.0, float("nan")]), "the point"),
    (mask_with(mask_id="<&"), "not one of 24 hexadecimal digits"),
    (lambda row: row.update(coverage=float("nan")), "its coverage is nan"),
    (lambda row: row.update(missed=float("nan")), "its missed is nan"),
    (lambda row: row.update(width=40_000, height=40_000), "its image has 40000 x 40000 pixels"),
    (lambda row: row.update(masks=None), "it has no masks"),
    (lambda row: row.update(masks=[None]), "a mask is null"),
    (lambda row: row.update(width=0), "its image has 0 x 40 pixels"),
    (lambda row: row.update(height=None), "its image has 60 x None pixels"),
    (lambda row: row.update(status="maybe"), "its status is 'maybe'"),
    (lambda row: row.update(error="both"), "either labels or an error"),
]


@pytest.mark.parametrize(("change", "sentence"), CHANGES)
def test_a_row_that_makes_no_sense_is_a_sentence(change: Change, sentence: str) -> None:
    rows = to_table(images()[:2]).to_pylist()
    change(rows[0])
    with pytest.raises(InputError, match=rf"holds a row that makes no sense, of image 'a/1\.jpg': .*{sentence}"):
        from_batch(pa.Table.from_pylist(rows, schema=SCHEMA))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    store.write_part(to_table(images()))
    (part,) = store.parts()
    pq.write_table(pq.read_table(part.path).drop_columns(["masks", "status"]), part.path)
    with pytest.raises(ForeignPartError, match="has no column status, masks"):
        list(store.images())


def test_a_configuration_that_was_altered_is_noticed(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    store.write_part(to_table(images()), {"method": "amg"})
    (part,) = store.parts()
    table = pq.read_table(part.path)
    fields = json.loads(table.schema.metadata[b"everymask"])
    fields["configuration"]["method"] = "amh"
    pq.write_table(table.replace_schema_metadata({b"everymask": json.dumps(fields)}), part.path)
    with pytest.raises(DamagedPartError, match="its metadata do not fit their digest"):
        list(store.images())


@pytest.mark.parametrize(
    "change",
    [
        {"format": "x"},
        {"format": None},
        {"format": 1, "images": [3]},
        {"format": 1, "seconds": "long"},
        {"format": 1, "configuration": 5},
        None,
    ],
)
def test_metadata_that_make_no_sense_are_a_sentence(tmp_path: Path, change: dict[str, Any] | None) -> None:
    store = LabelStore(str(tmp_path))
    store.write_part(to_table(images()), {"method": "amg"})
    (part,) = store.parts()
    table = pq.read_table(part.path)
    metadata = json.loads(table.schema.metadata[b"everymask"])
    text = "[" * 100_000 if change is None else json.dumps(metadata | change)
    pq.write_table(table.replace_schema_metadata({b"everymask": text}), part.path)
    with pytest.raises(DamagedPartError):
        list(store.images())
    assert store.configuration() == {}


def test_no_flipped_byte_passes_for_labels(tmp_path: Path) -> None:
    """Whatever byte of a part is altered: it is noticed, or changes nothing."""
    store = LabelStore(str(tmp_path))
    store.write_part(to_table(images(classes=True)), {"method": "classes"})
    (part,) = store.parts()
    sound = Path(part).read_bytes()
    generator = random.Random(0)
    noticed = 0
    for position in generator.sample(range(len(sound)), 300):
        altered = bytearray(sound)
        altered[position] ^= 1 << generator.randrange(8)
        Path(part).write_bytes(altered)
        try:
            verify(part)
            found = [image for batch in read_batches(part, None, 16) for image in from_batch(batch)]
        except (InputError, ValueError):
            noticed += 1
        else:
            assert found == images(classes=True), f"byte {position}"
    assert noticed > 150


@pytest.mark.parametrize("column", ["image_id", "uri", "error", "content_sha256", "status"])
def test_text_that_is_none_is_damage_whoever_reads_it(tmp_path: Path, column: str) -> None:
    """Arrow believes a file that its text is UTF-8."""
    store = LabelStore(str(tmp_path / "store"))
    store.write_part(to_table(images()))
    (part,) = store.parts()
    table = pq.read_table(part.path)
    ends = pa.array(range(table.num_rows + 1), pa.int32()).buffers()[1]
    bytes_ = pa.Array.from_buffers(pa.string(), table.num_rows, [None, ends, pa.py_buffer(b"\xff" * table.num_rows)])
    pq.write_table(table.set_column(table.schema.names.index(column), SCHEMA.field(column), bytes_), part.path)
    readings: list[Callable[[], Any]] = [
        lambda: list(store.images()),
        lambda: read_rows(part, [0]),
        lambda: read_facts(part, [column]),
        lambda: verify(part),
    ]
    for read in readings:
        with pytest.raises(DamagedPartError, match="is damaged"):
            read()


@pytest.mark.parametrize(("column", "value"), [("missed", float("inf")), ("missed", -1.0), ("image_id", None)])
def test_facts_of_a_row_that_makes_no_sense_are_a_sentence(tmp_path: Path, column: str, value: Any) -> None:
    store = LabelStore(str(tmp_path / "store"))
    store.write_part(to_table(images()))
    (part,) = store.parts()
    table = pq.read_table(part.path)
    values = pa.array([value] * table.num_rows, SCHEMA.field(column).type)
    field = SCHEMA.field(column).with_nullable(True)
    columns = [values if name == column else table[name] for name in table.schema.names]
    schema = pa.schema([field if one.name == column else one for one in table.schema], table.schema.metadata)
    pq.write_table(pa.table(columns, schema=schema), part.path)
    with pytest.raises(InputError, match=r"holds what makes no sense|is damaged"):
        read_facts(part)
