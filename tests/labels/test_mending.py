"""A damaged seal costs no label: it is made again from the parts beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from everymask.labels.mending import mend_seals
from everymask.labels.rows import ImageRow
from everymask.labels.sealing import reopen_shard, seal_shard
from everymask.labels.shards import DamagedSealError, Shard
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.labels.shard_files import write_shard

CONFIG = "c" * 64
ROWS = [
    ImageRow(f"{n:02d}.jpg", f"/in/{n:02d}.jpg", ImageLabels((7, 9), (), 0.0), None, f"{n:02d}" * 32) for n in range(12)
]


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(str(tmp_path / "store"))


@pytest.fixture
def shard(store: LabelStore) -> Shard:
    write_shard(store, 1, ROWS[:3])  # another one, which is left alone
    return write_shard(store, 0, ROWS)


def damage(shard: Shard) -> None:
    path = Path(shard.seal_file.path)
    path.write_bytes(path.read_bytes().replace(b'"images": ', b'"images": 1'))


def rows(store: LabelStore) -> list[ImageRow]:
    return sorted((row for row in store.images()), key=lambda row: row.image_id)


def test_every_label_is_kept_and_the_shard_is_sealed_again(store: LabelStore, shard: Shard) -> None:
    seal = seal_shard(store, shard, CONFIG, target_bytes=1)
    before = rows(store)
    damage(shard)
    with pytest.raises(DamagedSealError, match="the same `everymask label` command makes it again"):
        rows(store)
    (note,) = mend_seals(store, CONFIG)
    assert note.endswith("seal.json was damaged; it is made again from parts with 12 images")
    assert rows(store) == before
    assert mend_seals(store, CONFIG) == []
    assert seal_shard(store, shard, CONFIG).counts == seal.counts
    assert rows(store) == before


def test_parts_of_two_generations_and_small_ones_give_each_image_once(
    store: LabelStore, shard: Shard, tmp_path: Path
) -> None:
    seal_shard(store, shard, CONFIG)
    (old,) = Path(store.labels).glob("000000-*-*.parquet")
    shutil.copy(old, tmp_path / "old")
    reopen_shard(store, shard, lambda table: [image_id > "03.jpg" for image_id in table["image_id"].to_pylist()])
    shutil.copy(tmp_path / "old", old)  # as a kill before it was deleted leaves it
    os.utime(old, (1, 1))
    damage(shard)
    mend_seals(store, CONFIG)
    found = [row for row in rows(store) if row.image_id in {row.image_id for row in ROWS}]
    assert sorted(row.image_id for row in found) == sorted(
        [row.image_id for row in ROWS] + ["00.jpg", "01.jpg", "02.jpg"]
    )


def test_what_was_erased_or_is_damaged_does_not_come_back(store: LabelStore, shard: Shard) -> None:
    seal_shard(store, shard, CONFIG, target_bytes=1)
    (first, *_) = sorted(Path(store.labels).glob("000000-*-*.parquet"))
    first.write_bytes(b"no part")
    damage(shard)
    mend_seals(store, CONFIG)
    assert len(rows(store)) == 12 - 3 + 3
    assert "damaged" in next((Path(store.root.path) / "quarantine").iterdir()).name
    seal = shard.seal()
    assert seal is not None
    assert seal.open
