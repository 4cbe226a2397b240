"""A shard is sealed, reopened and read while it is: each row once, wherever a run is killed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everymask.errors import ConfigurationError, InputError, OutputError
from everymask.labels.parts import PartSummary
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.schema import MANIFEST
from everymask.labels.sealing import UnfinishedShardError, reopen_shard, seal_shard, tidy
from everymask.labels.shards import (
    DamagedSealError,
    Seal,
    SealedPart,
    Shard,
    manifest_digest,
    read_manifest_file,
    shards_of,
    write_manifest_file,
)
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.cut_filesystem import CutFileSystem, Killed, address, register
from tests.labels.examples import images
from tests.labels.shard_files import write_shard

CONFIG = "c" * 64


def rows(count: int = 12) -> list[ImageRow]:
    first = images()[0]
    others = [
        ImageRow(f"{n:02d}.jpg", f"/in/{n:02d}.jpg", ImageLabels((7, 9), (), 0.0), None, f"{n:02d}" * 32)
        for n in range(count - 2)
    ]
    return [first, *others, ImageRow("z.jpg", "/in/z.jpg", None, "the file is not there")]


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(str(tmp_path / "store"))


@pytest.fixture
def shard(store: LabelStore) -> Shard:
    return write_shard(store, 0, rows())


def ids(store: LabelStore) -> list[str]:
    return sorted(row.image_id for row in store.images())


def label_files(store: LabelStore) -> list[str]:
    return sorted(path.name for path in Path(store.labels).iterdir())


def test_a_sealed_shard_has_the_same_rows_in_fewer_parts(store: LabelStore, shard: Shard) -> None:
    before, counts = sorted(store.images(), key=lambda row: row.image_id), store.summary()
    assert len(label_files(store)) == 4
    seal = seal_shard(store, shard, CONFIG)
    assert [part.name for part in seal.parts] == label_files(store)
    assert [part.images for part in seal.parts] == [12]
    assert sorted(store.images(), key=lambda row: row.image_id) == before
    assert store.summary() == counts == seal.counts
    assert store.configuration() == {"method": "amg"}
    assert seal_shard(store, shard, CONFIG) == seal == shard.seal()
    (part,) = store.parts()
    assert pq.read_schema(part).metadata[b"everymask"] is not None


def test_parts_of_many_rows_are_gathered_in_their_order(store: LabelStore) -> None:
    """More rows than are packed together."""
    empty = ImageLabels((7, 9), (), 0.0)
    many = [ImageRow(f"{n:04d}.jpg", f"/in/{n:04d}.jpg", empty, None, "ab" * 32) for n in range(700)]
    shard = write_shard(store, 0, many, rows_per_part=300)
    assert [part.images for part in seal_shard(store, shard, CONFIG).parts] == [700]
    assert [row.image_id for row in sorted(store.images(), key=lambda row: row.uri)] == [row.image_id for row in many]
    (part,) = store.parts()
    groups = pq.ParquetFile(part).metadata
    assert max(groups.row_group(index).num_rows for index in range(groups.num_row_groups)) <= 600


def test_a_shards_folder_knows_its_own_files_and_its_manifest_column_by_column(store: LabelStore, shard: Shard) -> None:
    seal_shard(store, shard, CONFIG)
    for foreign in ("notes.txt", "manifest-1.parquet", "seal.json.bak"):
        shard.folder.child(foreign).write(b"mine")
    assert sorted(file.name for file in shard.files()) == ["manifest-0000.parquet", "seal.json"]
    assert read_manifest_file(shard.manifest_file(0), ["uri", "image_id"]).column_names == ["uri", "image_id"]
    assert read_manifest_file(shard.manifest_file(0)).schema == MANIFEST


def test_a_shard_that_another_process_was_told_of_is_sealed(store: LabelStore, shard: Shard) -> None:
    there, sent = pickle.loads(pickle.dumps((store, shard)))
    assert seal_shard(there, sent, CONFIG).counts.images == 12
    assert shard.seal() is not None


def test_parts_are_put_together_up_to_a_size_and_no_small_one_is_left(store: LabelStore) -> None:
    alike = [ImageRow(f"{n}", f"/{n}", None, "lost") for n in range(7)]
    shard = write_shard(store, 0, alike, rows_per_part=1)
    size = Path(store.parts()[0]).stat().st_size
    assert [part.images for part in seal_shard(store, shard, CONFIG, target_bytes=3 * size - 50).parts] == [3, 4]


def test_a_shard_with_a_row_missing_or_twice_is_not_sealed(store: LabelStore, shard: Shard) -> None:
    store.write_part(to_table(rows()[:1]), shard=0)
    before = label_files(store)
    with pytest.raises(UnfinishedShardError, match=r"of 12 images, 0 without a row; 1 row of no image, or twice"):
        seal_shard(store, shard, CONFIG)
    assert label_files(store) == before
    Path(store.parts()[0]).unlink()
    with pytest.raises(UnfinishedShardError, match=r"of 12 images, [12] without a row"):
        seal_shard(store, shard, CONFIG)
    assert shard.seal() is None


def cut_stores(folder: Path, prepare: Callable[[LabelStore], object]) -> Iterator[LabelStore]:
    """Stores whose programs may make 0, 1, 2, … changes; the last one was not cut."""
    register()
    for changes in range(1000):
        place = folder / f"{changes}"
        CutFileSystem.cut_after(None)
        prepare(LabelStore(str(place)))
        CutFileSystem.cut_after(changes)
        yield LabelStore(address(place))
        if CutFileSystem.left is None:
            return


def test_killed_anywhere_while_sealing_every_row_is_there_once_and_the_next_run_seals(tmp_path: Path) -> None:
    expected = sorted(row.image_id for row in rows(4))
    kills = 0
    for store in cut_stores(tmp_path, lambda store: write_shard(store, 0, rows(4), 2)):
        shard = Shard(store.root, 0)
        try:
            seal_shard(store, shard, CONFIG)
        except Killed:
            kills += 1
        else:
            CutFileSystem.cut_after(None)
        killed, CutFileSystem.left = CutFileSystem.left is not None, None
        assert ids(store) == expected
        assert store.summary().images == len(expected)
        tidy(store, shard)
        assert ids(store) == expected
        seal = seal_shard(store, shard, CONFIG)
        assert [part.name for part in seal.parts] == [name for name in label_files_at(store) if name[0] != "."]
        if killed:
            CutFileSystem.left = 0
    assert kills > 5


def label_files_at(store: LabelStore) -> list[str]:
    return sorted(path.name for path in Path(f"/{store.labels.path.lstrip('/')}").iterdir())


def test_killed_anywhere_while_reopened_no_other_row_is_lost(tmp_path: Path) -> None:
    def sealed(store: LabelStore) -> None:
        seal_shard(store, write_shard(store, 0, rows(4), 2), CONFIG, target_bytes=1)

    everything = sorted(row.image_id for row in rows(4))
    for store in cut_stores(tmp_path, sealed):
        shard = Shard(store.root, 0)
        try:
            reopen_shard(store, shard, without_errors)
        except Killed:
            pass
        else:
            CutFileSystem.cut_after(None)
        killed, CutFileSystem.left = CutFileSystem.left is not None, None
        assert ids(store) in (everything, everything[:-1])
        assert store.summary().images == len(ids(store))
        reopen_shard(store, shard, without_errors)
        tidy(store, shard)
        assert ids(store) == everything[:-1]
        assert sorted(part.name for part in store.parts()) == [n for n in label_files_at(store) if n[0] != "."]
        if killed:
            CutFileSystem.left = 0


def without_errors(found: pa.Table) -> list[bool]:
    return [status == "ok" for status in found["status"].to_pylist()]


def test_rows_of_a_sealed_shard_are_replaced_and_untouched_parts_stay(store: LabelStore, shard: Shard) -> None:
    before = {part.name for part in seal_shard(store, shard, CONFIG, target_bytes=1).parts}
    assert reopen_shard(store, shard, without_errors) == 1
    reopened = shard.seal()
    assert reopened is not None
    assert (reopened.open, reopened.counts.images, reopened.counts.errors) == (True, 11, 0)
    assert len({part.name for part in reopened.parts} & before) == 3
    assert len(ids(store)) == store.summary().images == 11
    with pytest.raises(UnfinishedShardError, match="of 12 images, 1 without a row"):
        seal_shard(store, shard, CONFIG)
    again = ImageRow("z.jpg", "/in/z.jpg", ImageLabels((7, 9), (), 0.0), None, "ab" * 32)
    store.write_part(to_table([again]), {"method": "amg"}, shard=0)
    assert len(ids(store)) == store.summary().images == 12
    seal = seal_shard(store, shard, CONFIG)
    assert (seal.open, seal.counts.images, seal.counts.errors) == (False, 12, 0)
    assert reopen_shard(store, shard, without_errors) == 0
    assert shard.seal() == seal


def test_values_of_a_sealed_shard_are_brought_up_to_date_and_it_stays_sealed(store: LabelStore, shard: Shard) -> None:
    seal_shard(store, shard, CONFIG)
    assert reopen_shard(store, shard, lambda found: [True] * found.num_rows, {"03.jpg": {"file_size": 7}}) == 0
    assert {row.image_id: row.file_size for row in store.images()}["03.jpg"] == 7
    seal = shard.seal()
    assert seal is not None
    assert not seal.open
    assert [part.name for part in seal.parts] == label_files(store)


def test_a_reader_that_began_before_the_seal_gets_each_row_once(store: LabelStore, shard: Shard) -> None:
    write_shard(store, 1, [ImageRow("last", "/last", None, "lost")])
    reader = store.batches(["uri"], batch_size=1)
    found = [next(reader), next(reader), next(reader), next(reader)]
    seal_shard(store, shard, CONFIG)
    found += list(reader)
    assert sorted(batch["uri"][0].as_py() for batch in found) == sorted([*(row.uri for row in rows()), "/last"])
    assert {name for batch in found for name in batch.schema.names} == {"uri"}


def test_a_part_that_somebody_deleted_is_named(store: LabelStore, shard: Shard) -> None:
    (part,) = seal_shard(store, shard, CONFIG).parts
    store.write_part(to_table([ImageRow("old", "/old", None, "lost")]))
    Path(store.labels.child(part.name)).unlink()
    with pytest.raises(InputError, match=rf"{part.name} is gone"):
        list(store.images())


def test_a_seal_is_read_as_it_was_written_and_damage_is_noticed(store: LabelStore, shard: Shard) -> None:
    seal = seal_shard(store, shard, CONFIG)
    text = Path(shard.seal_file).read_text()
    assert json.loads(text)["format"] == 4
    assert seal.manifest_sha256 == manifest_digest(shard.manifest_files())
    for damaged in ("", text[:-20], text.replace('"images": 12', '"images": 13'), "[]"):
        Path(shard.seal_file).write_text(damaged)
        with pytest.raises(DamagedSealError, match=r"seal\.json is damaged"):
            list(store.images())


def test_a_seal_that_names_files_elsewhere_opens_none_of_them(store: LabelStore, shard: Shard) -> None:
    seal_shard(store, shard, CONFIG)
    stranger = Seal(0, "", CONFIG, PartSummary(), (SealedPart("../../secret.parquet", 1, 1),))
    shard.write_seal(stranger)
    with pytest.raises(DamagedSealError, match="names files that are no parts of the shard"):
        store.parts()


def test_a_seal_of_a_newer_format_is_refused(store: LabelStore, shard: Shard) -> None:
    Path(shard.folder.child("seal.json")).write_text('{"format": 99}')
    with pytest.raises(ConfigurationError, match="has format 99; this everymask reads up to 4"):
        store.summary()


def test_shards_and_parts_of_no_shard_are_read_together(store: LabelStore, shard: Shard) -> None:
    store.write_part(to_table([ImageRow("old", "/old", None, "lost")]))
    seal_shard(store, shard, CONFIG)
    write_shard(store, 7, [ImageRow("new", "/new", None, "lost")])
    assert [found.number for found in shards_of(store.root)] == [0, 7]
    assert ids(store) == sorted(["old", "new", *(row.image_id for row in rows())])
    assert store.summary().images == 14


def test_a_manifest_has_one_digest_however_it_is_packed(tmp_path: Path) -> None:
    digests = set()
    for name, files in (("one", [6]), ("three", [1, 2, 3])):
        shard = Shard(LabelStore(str(tmp_path / name)).root, 0)
        listed = [{"image_id": f"{n}", "uri": f"/{n}", "file_size": n} for n in range(6)]
        for index, count in enumerate(files):
            start = sum(files[:index])
            write_manifest_file(
                shard.manifest_file(index), pa.Table.from_pylist(listed[start : start + count], MANIFEST)
            )
        digests.add(manifest_digest(shard.manifest_files()))
    assert len(digests) == 1


def test_what_cannot_be_written_is_said(store: LabelStore, shard: Shard) -> None:
    Path(store.root, "shards").rename(Path(store.root, "moved"))
    Path(store.root, "shards").write_text("a file in the way")
    with pytest.raises((OutputError, UnfinishedShardError, InputError)):
        seal_shard(store, shard, CONFIG)
    assert len(label_files(store)) == 4
