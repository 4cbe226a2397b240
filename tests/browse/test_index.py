"""The index is made once, follows the store, and is nothing that could be lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from browse.collection import Collection
from browse.index import Index
from browse.query import Query
from everymask.errors import InputError
from everymask.labels.correction import ImageCorrection
from everymask.labels.correction_history import untouched
from everymask.labels.corrections import write_corrections
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.review.steps import Step
from tests.browse.stores import collection_of
from tests.labels.examples import labels

FOUND = labels(classes=True)


def row(name: str, **fields: object) -> ImageRow:
    return replace(ImageRow(name, name, FOUND, None, "ab" * 32), **fields)  # type: ignore[arg-type]


def ids(collection: Collection, query: Query | None = None) -> list[str]:
    view = collection.view
    places = [view.place(position) for position in view.find(query or Query(order="id"))[0].tolist()]
    return [place.segment.image_ids[place.row].as_py() for place in places]


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    made = LabelStore(str(tmp_path / "labels"))
    made.write_part(to_table([row("a"), row("b")]))
    return made


def test_it_is_read_from_the_cache_the_second_time(store: LabelStore, tmp_path: Path) -> None:
    assert ids(collection_of(store, tmp_path / "cache")) == ["a", "b"]
    read: list[int] = []
    again = Collection(store, tmp_path / "cache")
    again.renew(lambda done, total: read.append(total))
    assert (ids(again), read) == (["a", "b"], [])


@pytest.mark.parametrize("damage", ["missing", "cut", "another version", "no json"])
def test_a_damaged_cache_is_made_anew(store: LabelStore, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    collection_of(store, cache)
    (segment,) = cache.glob("segment-*")
    match damage:
        case "missing":
            segment.unlink()
        case "cut":
            segment.write_bytes(segment.read_bytes()[:100])
        case "another version":
            (cache / "index.json").write_text('{"version": 0, "segments": []}')
        case _:
            (cache / "index.json").write_text("{")
    assert ids(collection_of(store, cache)) == ["a", "b"]
    assert len(list(cache.glob("segment-*"))) == 1, "what is not used any more goes"


def test_it_follows_a_store_that_grows_changes_and_shrinks(store: LabelStore, tmp_path: Path) -> None:
    collection = collection_of(store, tmp_path / "cache")
    epoch = collection.epoch
    store.write_part(to_table([row("c")]))
    collection.renew()
    assert (ids(collection), collection.epoch) == (["a", "b", "c"], epoch)
    first, _ = (part for part in sorted(store.parts(), key=lambda part: -part.filesystem.get_file_info(part.path).size))
    store.keep_rows(first, [False, True])
    collection.renew()
    assert (ids(collection), collection.epoch > epoch) == (["b", "c"], True)
    store.write_part(to_table([row("c", labels=None, error="gone")]))
    collection.renew()
    assert ids(collection, Query(show="errors")) == ["c"]
    for part in store.parts():
        part.delete()
    store.run_file.write(b"{}")
    collection.renew()
    assert ids(collection) == []


def test_many_small_segments_become_one(store: LabelStore, tmp_path: Path) -> None:
    index = Index(store, tmp_path / "cache")
    names = {"a", "b"}
    for number in range(15):
        store.write_part(to_table([row(f"{number:02d}")]))
        names.add(f"{number:02d}")
        index.renew()
    assert len(index.segments) < 13
    assert {name for segment in index.segments for name in segment.image_ids.to_pylist()} == names
    again = Index(store, tmp_path / "cache")
    assert not again.renew()
    assert sum(map(len, again.segments)) == len(names)


def test_a_part_that_cannot_be_read_hides_no_other(store: LabelStore, tmp_path: Path) -> None:
    bad = store.labels.child("part-" + "0" * 32 + ".parquet")
    bad.write(b"no parquet")
    collection = collection_of(store, tmp_path / "cache")
    assert ids(collection) == ["a", "b"]
    assert "is damaged" in collection.problems[bad.name]
    bad.delete()
    collection.renew()
    assert collection.problems == {}


def test_what_is_no_label_store_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a label store"):
        collection_of(LabelStore(str(tmp_path / "nowhere")), tmp_path / "cache")


def test_corrections_stay_laid_over_images_that_move_in_the_index(store: LabelStore, tmp_path: Path) -> None:
    collection = collection_of(store, tmp_path / "cache")
    masks = tuple(replace(mask, action="confirmed") for mask in untouched(row("b")))
    write_corrections(store, [ImageCorrection("b", "ab" * 32, (40, 60), "browse", "ada", None, "2026-11-29", masks)])
    first = store.parts()[0]
    store.keep_rows(first, [False, True])
    collection.renew()
    assert ids(collection, Query(corrected="finished")) == ["b"]
    store.write_part(to_table([row("0")]))
    collection.renew()
    assert ids(collection, Query(corrected="finished")) == ["b"]
    assert collection.look("b").labels == replace(
        FOUND, masks=tuple(replace(mask, score=1.0, uncertainty=0.0) for mask in FOUND.masks), missed=None
    )


def test_splits_are_a_filter(store: LabelStore, tmp_path: Path) -> None:
    collection = Collection(store, tmp_path / "cache", {"a": "train", "elsewhere": "val"})
    collection.renew()
    assert collection.view.split_names == ["train", "val"]
    assert ids(collection, Query(split="train")) == ["a"]
    assert ids(collection, Query(split="val")) == ids(collection, Query(split="test")) == []


def test_an_image_is_found_whatever_its_id(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "a b\n.jpg", "ä", "%2e%2e", "'; --", "x" * 3000]
    store = LabelStore(str(tmp_path / "labels"))
    store.write_part(to_table([row(name) for name in names]))
    collection = collection_of(store, tmp_path / "cache")
    assert [collection.look(name).row.image_id for name in names] == names
    with pytest.raises(InputError, match="has no image"):
        collection.look("a")
    assert Step("confirm").mask_ids == ()
