"""New labels take the place of a store's labels at once: wherever it is killed, readers see the ones or the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from everymask.errors import InputError
from everymask.labels.erasure import erase, erased_digests, id_digest
from everymask.labels.provenance import RunAttempt, RunRecord, read_run, write_run
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.sealing import seal_shard
from everymask.labels.store import LabelStore
from everymask.labels.updating import (
    classes_before,
    drop_update,
    is_begun,
    is_switched,
    put_in_place,
    switch,
    update_of,
)
from tests.cut_filesystem import CutFileSystem, Killed, address, register
from tests.labels.examples import images
from tests.labels.shard_files import write_shard

BEFORE = RunRecord({"method": "classes", "class_names": ["cat", "dog"]}, [RunAttempt("one", "2026", "cpu", {})])
NOW = RunRecord({"method": "classes", "class_names": ["dog"]}, [RunAttempt("two", "2027", "cpu", {})])


def rows(seconds: float) -> list[ImageRow]:
    """Five images; `seconds` tells who labelled them."""
    found = [*images(), *(replace(images()[0], image_id=f"{name}.jpg") for name in "yz")]
    return [replace(row, seconds=seconds) for row in found]


def write_labels(store: LabelStore, record: RunRecord, seconds: float, sharded: int) -> None:
    """A part of no shard, and a sealed shard of the last rows."""
    write_run(store, record)
    plain, shard = rows(seconds)[: 5 - sharded], rows(seconds)[5 - sharded :]
    store.write_part(to_table(plain), record.config)
    if sharded:
        seal_shard(store, write_shard(store, 0, shard), "c" * 64)


@pytest.fixture(params=[(0, 0), (2, 0), (2, 3)], ids=["plain", "shards to plain", "shards"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store whose update is complete."""
    store = LabelStore(str(tmp_path / "store"))
    write_labels(store, BEFORE, 1.0, request.param[0])
    write_labels(update_of(store), NOW, 2.0, request.param[1])
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def uncut() -> Iterator[None]:
    register()
    yield
    CutFileSystem.cut_after(None)


def seen(store: LabelStore) -> tuple[set[float], list[str], object]:
    """Who labelled the rows, the ids of all of them, and the classes that the store says it has."""
    found = list(store.images())
    record = read_run(store)
    assert record is not None
    return {row.seconds for row in found}, sorted(row.image_id for row in found), record.config["class_names"]


OLD = ({1.0}, ["a/1.jpg", "b/1.jpg", "c.jpg", "y.jpg", "z.jpg"], ["cat", "dog"])
NEW = ({2.0}, OLD[1], ["dog"])


def test_an_update_is_not_seen_until_it_is_switched_to(folder: Path) -> None:
    store = LabelStore(str(folder))
    assert seen(store) == OLD
    assert is_begun(store)
    assert not is_switched(store)
    switch(store)
    assert is_switched(store)
    assert seen(store) == NEW
    assert classes_before(store) == ["cat", "dog"]
    assert [str(store.part(store.name_of(part))) for part in store.parts()] == list(map(str, store.parts()))
    put_in_place(store)
    assert seen(store) == NEW
    assert not is_begun(store)
    assert not is_switched(store)
    assert {path.name for path in folder.iterdir()} <= {"run.json", "labels", "shards"}
    assert {path.name for path in (folder / "labels").iterdir()} == {part.name for part in store.parts()}


def test_the_attempts_of_both_runs_are_kept_once(folder: Path) -> None:
    store = LabelStore(str(folder))
    switch(store)
    switch(store)  # a kill came before the marker was seen
    put_in_place(store)
    record = read_run(store)
    assert record is not None
    assert [attempt.command for attempt in record.attempts] == ["one", "two"]


def test_wherever_it_is_killed_readers_see_all_rows_of_one_run_and_the_rest_is_done_later(folder: Path) -> None:
    store, cut = LabelStore(str(folder)), LabelStore(address(folder))
    seen_so_far = []
    for changes in range(100):
        CutFileSystem.cut_after(changes)
        try:
            if not is_switched(cut):
                switch(cut)
            put_in_place(cut)
            break
        except Killed:
            seen_so_far.append(seen(store))
            if seen_so_far[-1] == NEW and not is_switched(store):
                break  # in place, and only what is left over has to go
    CutFileSystem.cut_after(None)
    assert [found in (OLD, NEW) for found in seen_so_far] == [True] * len(seen_so_far)
    assert OLD in seen_so_far
    assert len(seen_so_far) > 5
    drop_update(store)
    assert seen(store) == NEW
    assert {path.name for path in (folder / "labels").iterdir()} == {part.name for part in store.parts()}


def test_an_image_that_is_erased_meanwhile_is_gone_from_both(folder: Path) -> None:
    store = LabelStore(str(folder))
    erase(store, ["y.jpg"])
    assert id_digest("y.jpg") in erased_digests(update_of(store))
    assert "y.jpg" not in seen(store)[1]
    switch(store)
    put_in_place(store)
    assert seen(store)[:2] == ({2.0}, ["a/1.jpg", "b/1.jpg", "c.jpg", "z.jpg"])


def test_there_must_be_an_update(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    write_labels(store, BEFORE, 1.0, 0)
    with pytest.raises(InputError, match="has no update"):
        switch(store)
    assert not is_switched(store)
