"""What is done is known, what stands twice goes, what is pending is written without holding it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_jobs.labelling.inputs import ImageRef
from data_jobs.labelling.resume import IdSet, Pending, settle_store, write_pending
from everymask.errors import ConfigurationError, InputError
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from tests.data_jobs.labelling.damaged import damage
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
    assert (finished.errors, finished.dropped, finished.notes) == (1, 0, [])


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


@pytest.mark.parametrize("bad_first", [False, True])
@pytest.mark.parametrize("one_part", [False, True])
def test_a_row_with_labels_wins_whatever_comes_first(tmp_path: Path, bad_first: bool, one_part: bool) -> None:
    """Names of parts, so their order, depend on the other images in them."""
    good = images()[0]
    bad = ImageRow(good.image_id, good.uri, None, "the file is not there")
    for number in range(6):
        store = LabelStore(str(tmp_path / f"{number}"))
        other = ImageRow(f"{number}.jpg", "/x.jpg", None, "lost")
        rows = [bad, good] if bad_first else [good, bad]
        for part in [[*rows, other]] if one_part else [[rows[0], other], [rows[1]]]:
            store.write_part(to_table(part))
        finished = settle_store(store)
        assert {image.image_id: image for image in store.images()} == {good.image_id: good, other.image_id: other}
        assert (finished.dropped, finished.errors, len(finished.ids)) == (1, 1, 2)
        assert settle_store(store).dropped == 0


@pytest.mark.parametrize("how", ["empty", "cut", "image_id", "status"])
def test_a_damaged_part_is_moved_aside_and_its_images_are_pending(store: LabelStore, how: str) -> None:
    part = Path(store.parts()[0])
    if how in ("empty", "cut"):
        part.write_bytes(b"" if how == "empty" else part.read_bytes()[:-20])
    else:
        damage(part, how)
    content = part.read_bytes()
    finished = settle_store(store)
    aside = Path(store.root, "quarantine", f"damaged-{part.name}")
    assert aside.read_bytes() == content
    assert finished.notes == [f"{part.name} is damaged and was moved to {aside}; its images are labelled again"]
    assert len(finished.ids) == len(stored(store)) < 3
    assert settle_store(store).notes == []


def test_damaged_masks_are_found_when_every_page_is_read(store: LabelStore) -> None:
    (part,) = [Path(part) for part in store.parts() if store.read_columns(part, ["image_id"]).num_rows == 2]
    damage(part, "masks.list.element.rle.counts")
    assert settle_store(store).notes == []
    with pytest.raises(InputError, match=r"is damaged .*; `everymask label --verify`"):
        list(store.images())
    finished = settle_store(store, verify=True)
    assert len(finished.notes) == 1
    assert stored(store) == ["c.jpg"]
    assert len(finished.ids) == 1


def test_damaged_masks_in_a_part_that_must_be_rewritten_do_not_end_the_resume(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    store.write_part(to_table(images()))
    damage(Path(store.parts()[0]), "masks.list.element.rle.counts")
    finished = settle_store(store, retry_failed=True)
    assert (len(finished.ids), len(finished.notes), store.parts()) == (0, 1, [])


def test_foreign_files_are_moved_aside_under_a_name_that_says_so(store: LabelStore) -> None:
    pq.write_table(pa.table({"x": [1]}), store.labels.child("mine.parquet").path)
    first = settle_store(store)
    Path(store.labels.child("mine.parquet").path).write_bytes(b"other")
    second = settle_store(store)
    quarantine = Path(store.root, "quarantine")
    assert sorted(path.name for path in quarantine.iterdir()) == ["damaged-mine.parquet", "foreign-mine.parquet"]
    assert first.notes == [f"mine.parquet is foreign and was moved to {quarantine / 'foreign-mine.parquet'}"]
    assert len(second.notes) == 1
    assert len(second.ids) == len(stored(store)) == 3


def refs(count: int) -> Iterator[ImageRef]:
    return (ImageRef(f"{number:05d}.jpg", f"/in/{number:05d}.jpg") for number in range(count))


def pending_ids(pending: Pending) -> list[str]:
    found: list[str] = pq.read_table(pending.manifest.folder.path)["image_id"].to_pylist()
    return found


def test_pending_is_what_is_listed_and_not_done(tmp_path: Path) -> None:
    store, done = LabelStore(str(tmp_path)), IdSet()
    for ref in refs(5000):
        if int(ref.image_id[:5]) % 2:
            done.add(ref.image_id)
    pending = write_pending(store, refs(10_000), done)
    assert (pending.images, pending.listed, pending.manifest.files) == (7500, 10_000, 2)
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
