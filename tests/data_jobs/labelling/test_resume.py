"""What is done is known, what stands twice goes, what is pending is written without holding it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_jobs.labelling.inputs import ImageRef
from data_jobs.labelling.resume import IdSet, Pending, settle_store, write_pending
from everymask.errors import ConfigurationError
from everymask.labels.rows import to_table
from everymask.labels.store import LabelStore
from tests.labels.examples import images


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    store = LabelStore(str(tmp_path))
    store.write_part(to_table(images()[:2]))
    store.write_part(to_table(images()[2:]))
    return store


def stored(store: LabelStore) -> list[str]:
    return sorted(image.image_id for image in store.images())


def test_rows_are_done_errors_included(store: LabelStore) -> None:
    finished = settle_store(store)
    assert len(finished.ids) == 3
    assert "c.jpg" in finished.ids
    assert (finished.errors, finished.dropped, finished.damaged) == (1, 0, 0)


def test_retry_failed_drops_error_rows_and_nothing_else(store: LabelStore) -> None:
    finished = settle_store(store, retry_failed=True)
    assert "c.jpg" not in finished.ids
    assert stored(store) == ["a/1.jpg", "b/1.jpg"]
    assert settle_store(store, retry_failed=True).dropped == 0


def test_rows_that_stand_twice_are_dropped(store: LabelStore) -> None:
    store.write_part(to_table(images()))
    assert stored(store) == ["a/1.jpg", "a/1.jpg", "b/1.jpg", "b/1.jpg", "c.jpg", "c.jpg"]
    assert settle_store(store).dropped == 3
    assert stored(store) == ["a/1.jpg", "b/1.jpg", "c.jpg"]


def test_an_unreadable_part_counts_as_not_done(store: LabelStore) -> None:
    Path(store.parts()[0]).write_bytes(b"")
    finished = settle_store(store)
    assert finished.damaged == 1
    assert len(finished.ids) == len(stored(store)) < 3


def refs(count: int) -> Iterator[ImageRef]:
    return (ImageRef(f"{number:05d}.jpg", f"/in/{number:05d}.jpg") for number in range(count))


def pending_ids(pending: Pending) -> list[str]:
    found: list[str] = pq.read_table(pending.folder)["image_id"].to_pylist()
    return found


def test_pending_is_what_is_listed_and_not_done(tmp_path: Path) -> None:
    store, done = LabelStore(str(tmp_path)), IdSet()
    for ref in refs(5000):
        if int(ref.image_id[:5]) % 2:
            done.add(ref.image_id)
    pending = write_pending(store, refs(10_000), done)
    assert (pending.images, pending.listed, pending.files) == (7500, 10_000, 2)
    assert pending_ids(pending) == [ref.image_id for ref in refs(10_000) if ref.image_id not in done]


def test_an_older_manifest_is_replaced(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    write_pending(store, refs(9000), IdSet())
    assert len(pending_ids(write_pending(store, refs(3), IdSet()))) == 3


def test_an_image_listed_twice_is_labelled_once(tmp_path: Path) -> None:
    pending = write_pending(LabelStore(str(tmp_path)), [*refs(3), *refs(2)], IdSet())
    assert (pending.images, pending.listed) == (3, 3)


def test_two_images_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"two images of the input have the id 'x', one of them /b/x\.jpg"):
        write_pending(LabelStore(str(tmp_path)), [ImageRef("x", "/a/x.jpg"), ImageRef("x", "/b/x.jpg")], IdSet())
