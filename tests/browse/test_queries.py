"""Filters and orders of the index equal a plain scan of the store, whatever people have corrected."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from browse.collection import Collection
from browse.query import Query, Range
from everymask.labels.correction_history import untouched
from everymask.labels.correction_log import CorrectionLog, read_history
from everymask.labels.corrections import ImageCorrection, corrected, read_corrections, write_corrections
from everymask.labels.doubt import image_doubt
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.browse.stores import collection_of
from tests.labels.examples import labels

SHARE = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 0.9, 1.0]) | st.floats(0, 1)
NAMES = ("a/1.jpg", "a/Löwe.JPG", "b/\n2.jpg", "c 3.png", "ä/4.webp", "B/5", "6")


@st.composite
def images(draw: st.DrawFn) -> list[ImageRow]:
    """One to seven images: errors, empty ones, entities, classes."""
    made = []
    for name in NAMES[: draw(st.integers(1, len(NAMES)))]:
        kind = draw(st.sampled_from(["error", "empty", "entities", "classes", "classes"]))
        if kind == "error":
            made.append(ImageRow(name, name, None, "it is broken"))
            continue
        found = labels(classes=kind == "classes")
        masks = [] if kind == "empty" else found.masks[: draw(st.integers(1, 2))]
        scored = [replace(mask, score=draw(SHARE), uncertainty=draw(SHARE)) for mask in masks]
        missed = draw(st.none() | st.floats(0, 5)) if kind == "classes" else None
        made.append(ImageRow(name, name, ImageLabels((40, 60), tuple(scored), draw(SHARE), missed), None, "ab" * 32))
    return made


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Any query."""
    ends = st.none() | SHARE
    return Query(
        show=draw(st.sampled_from(["all", "masks", "empty", "errors"])),
        corrected=draw(st.sampled_from(["any", "any", "no", "begun", "finished", "changed"])),
        text=draw(st.sampled_from(["", "", "a", "JPG", "ö", "\n"])),
        classes=draw(st.sampled_from([(), (), (0,), (1,), (0, 1), (-1,)])),
        score=Range(draw(ends), draw(ends)),
        area=Range(draw(ends), draw(ends)),
        doubt=Range(draw(ends), draw(ends)),
        masks=Range(draw(st.none() | st.integers(0, 2)), draw(st.none() | st.integers(0, 2))),
        order=draw(st.sampled_from(["doubt", "id", "most-masks", "fewest-masks", "lowest-score"])),
    )


def a_correction(row: ImageRow, actions: list[str], at: int) -> ImageCorrection:
    assert row.labels is not None
    masks = tuple(replace(mask, action=action) for mask, action in zip(untouched(row), actions, strict=False))  # type: ignore[arg-type]
    time = datetime.fromtimestamp(1_000_000 + at, UTC).isoformat()
    return ImageCorrection(row.image_id, row.content_sha256, (40, 60), "browse", "ada", time, time, masks)


def plain_scan(store: LabelStore, query: Query) -> list[str]:
    """The same, by looking at every row with the library's own functions, in 32-bit numbers."""
    known = read_corrections(store)
    found = []
    for row in store.images():
        entry = known.get(row.image_id)
        judged = entry is not None and (not entry.masks or any(mask.action != "kept" for mask in entry.masks))
        state = "" if entry is None else "finished" if entry.finished else "begun" if judged else ""
        shown = corrected(row, known).labels
        masks = shown.masks if shown else ()
        doubt = 1.0 if shown is None else 0.0 if state == "finished" else image_doubt(shown)
        fulfilling = [
            mask
            for mask in masks
            if (not query.classes or (-1 if mask.class_id is None else mask.class_id) in query.classes)
            and within(query.score, mask.score)
            and within(query.area, mask.area / 2400)
        ]
        of_masks = query.classes or query.score != Range() or query.area != Range()
        kinds = {
            "all": True,
            "masks": len(masks) > 0,
            "empty": shown is not None and not masks,
            "errors": shown is None,
        }
        states = {
            "any": True,
            "no": state == "",
            "begun": state == "begun",
            "finished": state == "finished",
            "changed": entry is not None and entry.changed,
        }
        if (
            kinds[query.show]
            and states[query.corrected]
            and query.text.lower() in row.image_id.lower()
            and (fulfilling or not of_masks)
            and within(query.doubt, doubt)
            and (query.masks.least or 0) <= len(masks) <= (9 if query.masks.most is None else query.masks.most)
        ):
            lowest = min((mask.score for mask in masks), default=1.0)
            keys = {
                "doubt": -np.float32(doubt),
                "id": row.image_id.encode(),
                "most-masks": -len(masks),
                "fewest-masks": len(masks),
                "lowest-score": np.float32(lowest),
            }
            found.append((keys[query.order], row.image_id))
    return [image_id for _, image_id in sorted(found, key=lambda pair: pair[0])]


def ids_at(collection: Collection, positions: NDArray[np.int32]) -> list[str]:
    places = [collection.view.place(position) for position in positions.tolist()]
    return [place.segment.image_ids[place.row].as_py() for place in places]


def within(ends: Range, value: float) -> bool:
    number = np.float32(value)
    return (ends.least is None or number >= np.float32(ends.least)) and (
        ends.most is None or number <= np.float32(ends.most)
    )


@settings(max_examples=60, deadline=None)
@given(images(), st.lists(queries(), min_size=1, max_size=6), st.data())
def test_filters_and_orders_equal_a_plain_scan(
    tmp_path_factory: pytest.TempPathFactory, rows: list[ImageRow], asked: list[Query], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = LabelStore(str(folder / "labels"))
    half = len(rows) // 2
    for some in (rows[:half], rows[half:]):
        if some:
            store.write_part(to_table(some))
    collection = collection_of(store, folder / "cache")
    for at, row in enumerate(rows):
        if row.labels is not None and data.draw(st.booleans()):
            actions = [data.draw(st.sampled_from(["kept", "confirmed", "deleted"])) for _ in row.labels.masks]
            write_corrections(store, [a_correction(row, actions, at)])
    collection.renew()
    for query in asked:
        found, _ = collection.view.find(query)
        ids = ids_at(collection, found)
        expected = plain_scan(store, query)
        assert sorted(ids) == sorted(expected)
        if query.order == "id":
            assert ids == expected
        counts = collection.view.classes(found)
        known = read_corrections(store)
        shown = [corrected(row, known).labels for row in store.images() if row.image_id in set(ids)]
        listed = [mask.class_id for one in shown if one for mask in one.masks]
        assert {key: count for key, count in counts.items() if count} == {key: listed.count(key) for key in set(listed)}


def test_orders_are_kept_among_corrected_images(tmp_path: Path) -> None:
    found = labels(classes=True)
    rows = [
        ImageRow(name, name, replace(found, missed=missed), None, "ab" * 32)
        for name, missed in (("low", 0.0), ("high", 9.0), ("middle", 2.0))
    ]
    store = LabelStore(str(tmp_path / "labels"))
    store.write_part(to_table(rows))
    collection = collection_of(store, tmp_path / "cache")

    def order(query: Query) -> list[str]:
        return ids_at(collection, collection.view.find(query)[0])

    assert order(Query()) == ["high", "middle", "low"]
    write_corrections(store, [a_correction(rows[1], ["confirmed", "deleted"], 0)])
    collection.renew()
    assert order(Query()) == ["middle", "low", "high"], "a finished image is not doubtful any more"
    assert order(Query(order="fewest-masks"))[0] == "high"
    assert order(Query(order="latest"))[0] == "high"
    assert sorted(order(Query(order="random"))) == ["high", "low", "middle"]


def test_a_list_that_is_gone_through_stays_as_it_is(tmp_path: Path) -> None:
    """Whoever confirms images of a list by doubt still finds the next one where it was."""
    found = labels(classes=True)
    rows = [ImageRow(str(number), "x", replace(found, missed=float(number)), None, "ab" * 32) for number in range(5)]
    store = LabelStore(str(tmp_path / "labels"))
    store.write_part(to_table(rows))
    collection = collection_of(store, tmp_path / "cache")
    query = Query(corrected="no")
    before, version = collection.view.find(query)
    write_corrections(store, [a_correction(rows[4], ["confirmed", "confirmed"], 0)])
    collection.renew()
    again, _ = collection.view.find(query, version)
    assert again.tolist() == before.tolist()
    fresh, newer = collection.view.find(query)
    assert (len(fresh), newer) == (4, version + 1)


def test_what_is_stale_or_in_conflict_is_found(tmp_path: Path) -> None:
    found = labels(classes=True)
    rows = [ImageRow(name, name, found, None, "ab" * 32) for name in ("stale", "conflict", "lost")]
    store = LabelStore(str(tmp_path / "labels"))
    store.write_part(to_table(rows[:2]))
    stale = replace(a_correction(rows[0], ["confirmed", "deleted"], 0), content_sha256="cd" * 32)
    write_corrections(store, [stale, a_correction(rows[2], ["confirmed", "deleted"], 1)])
    CorrectionLog(store, "ada").keep([a_correction(rows[1], ["confirmed", "deleted"], 2)])
    CorrectionLog(store, "bob").keep([a_correction(rows[1], ["deleted", "confirmed"], 3)])
    assert len(read_history(store).conflicts()) == 1
    collection = collection_of(store, tmp_path / "cache")

    def ids(query: Query) -> list[str]:
        return ids_at(collection, collection.view.find(query)[0])

    assert ids(Query(corrected="stale")) == ["stale"]
    assert ids(Query(corrected="conflict")) == ["conflict"]
    assert ids(Query(corrected="no")) == ["stale"]
    assert ids(Query(text="lost")) == ["lost"], "its row is gone, what people made of it is not"
    assert collection.view.totals() | {"masks": 0} == {
        **{"images": 3, "errors": 0, "masks": 0, "finished": 2, "begun": 0, "conflicts": 1, "stale": 1}
    }
