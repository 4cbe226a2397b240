"""Parts are written whole, read as a stream, and rewritten in one step."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everymask.errors import ConfigurationError, InputError
from everymask.labels import parts
from everymask.labels.parts import DamagedPartError, read_rows
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.schema import ADDED_IN, FORMAT_VERSION, SCHEMA, stored_schema
from everymask.labels.store import LabelStore, PartSummary
from tests.labels.examples import images


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    store = LabelStore(str(tmp_path / "out"))
    store.write_part(to_table(images()[:2]))
    store.write_part(to_table(images()[2:]))
    return store


def by_id(store: LabelStore) -> list[ImageRow]:
    return sorted(store.images(), key=lambda image: image.image_id)


def test_images_come_back(store: LabelStore) -> None:
    assert by_id(store) == images()
    assert by_id(pickle.loads(pickle.dumps(store))) == images()


def test_summaries_count_rows_errors_and_masks(store: LabelStore) -> None:
    assert store.summary() == PartSummary(images=3, errors=1, masks=2, seconds=0.75)


def test_a_part_says_how_its_labels_were_made(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    store.write_part(to_table(images()), {"method": "amg", "amg": {"points_per_side": 4}})
    (part,) = store.parts()
    described = json.loads(pq.read_schema(part).metadata[b"everymask"])
    assert described["format"] == FORMAT_VERSION
    assert described["configuration"] == {"method": "amg", "amg": {"points_per_side": 4}}
    store.keep_rows(part, [True, False, True])
    assert store.configuration() == described["configuration"]


def test_a_flipped_bit_in_any_column_is_noticed(store: LabelStore) -> None:
    part = Path(store.parts()[0])
    sound = part.read_bytes()
    metadata = pq.read_metadata(part)
    for column in range(metadata.num_columns):
        chunk = metadata.row_group(0).column(column)
        damaged = bytearray(sound)
        damaged[(chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 1] ^= 1
        part.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged"):
            list(store.images())


def test_writing_a_part_twice_changes_nothing(store: LabelStore) -> None:
    before = [part.name for part in store.parts()]
    store.write_part(to_table([images()[1], images()[0]]))
    assert [part.name for part in store.parts()] == before
    assert len(by_id(store)) == 3


def test_ids_that_hold_a_line_break_share_no_part_with_others(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "out"))
    batches = [["a", "b"], ["a\nb"], ["ab"], ["a", "b\n"], ["a\n", "b"]]
    for names in batches:
        store.write_part(to_table([replace(images()[0], image_id=name) for name in names]))
    assert len(store.parts()) == len(batches)
    assert len(list(store.images())) == sum(map(len, batches))


def test_plain_parquet_readers_see_the_schema_and_drafts_are_passed_over(store: LabelStore, tmp_path: Path) -> None:
    (tmp_path / "out" / "labels" / ".part-x.parquet.123").write_bytes(b"half a draft")
    table = pq.read_table(tmp_path / "out" / "labels")
    assert table.schema.equals(stored_schema())
    assert table.num_rows == 3
    assert len(by_id(store)) == 3


def test_what_a_desktop_leaves_beside_a_part_is_no_part(store: LabelStore) -> None:
    """macOS writes a file of its own beside every file that it copies to a foreign disk."""
    for part in store.parts():
        store.labels.child(f"._{part.name}").write(b"Mac OS X")
    store.labels.child("notes.txt").write(b"mine")
    assert len(by_id(store)) == 3


def test_a_store_is_laid_out_as_its_format_says(tmp_path: Path) -> None:
    """Other programs find the files by these names (docs/decisions/store-format-4.md)."""
    store = LabelStore(str(tmp_path))
    places = {
        "run.json": store.run_file,
        "labels": store.labels,
        "shards": store.shards,
        "shards/listing.json": store.listing_file,
        "estimate.json": store.estimate_file,
        "checkpoint": store.checkpoint,
        "checkpoint/ended.json": store.ended_file,
        "preview": store.preview,
        "quarantine": store.quarantine,
        "corrections": store.corrections,
    }
    assert {name: place.path for name, place in places.items()} == {name: str(tmp_path / name) for name in places}


def test_a_part_is_found_by_its_name(store: LabelStore) -> None:
    for part in store.parts():
        assert store.part(store.name_of(part)).path == part.path


def test_single_rows_of_a_rewritten_part_can_be_read_without_the_rest(tmp_path: Path) -> None:
    """A page opens one row; it reads the few hundred that lie beside it."""
    store = LabelStore(str(tmp_path))
    store.write_part(to_table(replace(images()[2], image_id=f"{number}.jpg") for number in range(700)))
    (part,) = store.parts()
    store.keep_rows(part, [False] * 56 + [True] * 644)
    (part,) = store.parts()
    footer = pq.read_metadata(part)
    groups = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    assert sum(groups) == 644
    assert max(groups) <= 256


def test_keep_rows_rewrites_a_part_and_removes_an_empty_one(store: LabelStore) -> None:
    for part in store.parts():
        ids = store.read_columns(part, ["image_id"])["image_id"].to_pylist()
        store.keep_rows(part, [image_id == "b/1.jpg" for image_id in ids])
    assert [image.image_id for image in store.images()] == ["b/1.jpg"]
    assert store.summary() == PartSummary(images=1, errors=0, masks=0, seconds=0.25)
    assert len(store.parts()) == 1


def test_columns_can_be_chosen(store: LabelStore) -> None:
    batches = list(store.batches(["image_id"]))
    assert pa.Table.from_batches(batches).schema.names == ["image_id"]
    assert {tuple(batch.schema.names) for batch in store.batches_of(store.parts(), ["uri"])} == {("uri",)}


def test_rows_of_a_part_are_read_by_number_and_no_others(store: LabelStore) -> None:
    (part, *_) = store.parts()
    everything = store.read_columns(part, ["image_id"])["image_id"].to_pylist()
    last = len(everything) - 1
    assert read_rows(part, [last, 0, last])["image_id"].to_pylist() == [
        everything[last],
        everything[0],
        everything[last],
    ]
    for missing in (last + 1, -1):
        with pytest.raises(IndexError, match="has no row"):
            read_rows(part, [0, missing])


def test_columns_of_a_part_are_read_whichever_format_brought_them(store: LabelStore) -> None:
    row = replace(images()[0], image_id="new.jpg", file_size=17, file_version="mtime:5")
    written = {part.name for part in store.parts()}
    store.write_part(to_table([row]))
    (part,) = (part for part in store.parts() if part.name not in written)
    table = store.read_columns(part, ["file_version", "image_id", "file_size"])
    assert table.to_pylist() == [{"file_version": "mtime:5", "image_id": "new.jpg", "file_size": 17}]


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a label store"):
        list(LabelStore(str(tmp_path)).images())


def test_a_damaged_part_is_named(store: LabelStore) -> None:
    Path(store.parts()[0]).write_bytes(b"PAR1 cut off")
    with pytest.raises(InputError, match=r"part-\w+\.parquet is damaged"):
        store.summary()
    with pytest.raises(DamagedPartError):
        store.read_columns(store.parts()[0], ["image_id"])


def test_a_newer_format_is_refused(store: LabelStore) -> None:
    part = store.parts()[0]
    metadata = {b"everymask": b'{"format": 99, "images": 1, "errors": 0, "masks": 0, "seconds": 0.0}'}
    pq.write_table(pq.read_table(part).replace_schema_metadata(metadata), part)
    with pytest.raises(ConfigurationError, match=f"has format 99; this everymask reads up to {FORMAT_VERSION}"):
        store.summary()


def test_a_store_made_before_a_column_was_added_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LabelStore(str(tmp_path))
    older = pa.schema([field for field in SCHEMA if field.name not in ADDED_IN])
    with monkeypatch.context() as before:
        before.setattr(parts, "stored_schema", lambda optional: older)
        before.setattr(parts, "FORMAT_VERSION", 2)
        store.write_part(to_table(images()[:2]))
    store.write_part(to_table(images()[2:]))
    assert {"missed" in pq.read_schema(part).names for part in store.parts()} == {True, False}
    assert by_id(store) == images()


def with_presence() -> ImageRow:
    found = images(classes=True)[0]
    assert found.labels is not None
    return replace(found, labels=replace(found.labels, presence=(0.75, 0.5)))


def test_presence_is_a_column_only_where_a_method_says_it(store: LabelStore) -> None:
    named = replace(with_presence(), image_id="named.jpg")
    store.write_part(to_table([named]))
    failed = replace(images()[2], image_id="failed.jpg")
    store.write_part(to_table([failed]), {"method": "concepts"})  # all parts of a run have the same columns
    found = by_id(store)
    assert found == sorted([*images(), named, failed], key=lambda image: image.image_id)
    having = [part for part in store.parts() if "presence" in pq.read_schema(part).names]
    ids = [store.read_columns(part, ["image_id"])["image_id"].to_pylist() for part in having]
    assert sorted(ids) == [["failed.jpg"], ["named.jpg"]]


def test_presence_survives_rewriting_and_is_null_in_rows_without_it(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    store.write_part(to_table([with_presence(), *images()[1:]]))
    (part,) = store.parts()
    store.keep_rows(part, [True, True, False], {"b/1.jpg": {"coverage": 0.25}})
    first, second = by_id(store)
    assert first == with_presence()
    assert second.labels is not None
    assert (second.labels.coverage, second.labels.presence) == (0.25, None)
    store.keep_rows(part, [False, True])
    assert "presence" in pq.read_schema(part).names
    assert store.read_columns(part, ["presence", "image_id"]).to_pylist() == [{"presence": None, "image_id": "b/1.jpg"}]


def test_columns_of_a_later_release_are_passed_over(store: LabelStore) -> None:
    for part in store.parts():
        table = pq.read_table(part)
        later = table.append_column("colour_of_the_sky", pa.array(["blue"] * table.num_rows))
        pq.write_table(later.replace_schema_metadata(table.schema.metadata), part, write_page_checksum=True)
    assert by_id(store) == images()
    store.keep_rows(store.parts()[0], [True] * store.read_columns(store.parts()[0], ["image_id"]).num_rows)
    assert by_id(store) == images()


def test_a_foreign_parquet_file_is_refused(store: LabelStore) -> None:
    pq.write_table(pa.table({"x": [1]}), store.labels.child("foreign.parquet").path)
    with pytest.raises(InputError, match=r"foreign\.parquet was not written by everymask"):
        store.summary()


def test_files_of_one_name_that_are_set_aside_are_all_kept(store: LabelStore) -> None:
    aside = []
    for number in range(3):
        file = store.labels.child("mine.parquet")
        file.write(bytes([number]))
        aside.append(store.set_aside(file, "foreign"))
        assert not Path(file.path).exists()
    assert [Path(file.path).read_bytes() for file in aside] == [b"\0", b"\1", b"\2"]
    assert [file.name for file in aside] == [
        "foreign-mine.parquet",
        "foreign-2-mine.parquet",
        "foreign-3-mine.parquet",
    ]
