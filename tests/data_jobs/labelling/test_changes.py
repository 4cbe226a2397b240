"""A file that was edited is labelled again, one that was only copied is not, and a run over neither reads none."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_jobs.labelling.changes import Changes, settle_changes
from data_jobs.labelling.inputs import list_images
from data_jobs.labelling.resume import Pending, settle_store, write_pending
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels

NAMES = ["a.png", "b.png", "c.png", "d.png"]


def draw(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)).save(path)


def label(store: LabelStore, folder: Path) -> None:
    """Rows as a run writes them, two parts of two; `d.png` is an error."""
    rows = []
    for image in list_images(str(folder)):
        error = "not an image" if image.image_id == "d.png" else None
        labels = None if error else ImageLabels((8, 8), (), 0.0)
        sha256 = hashlib.sha256(Path(image.uri).read_bytes()).hexdigest()
        row = ImageRow(image.image_id, image.uri, labels, error, sha256, 0.1)
        rows.append(replace(row, file_size=image.file_size, file_version=image.file_version))
    store.write_part(to_table(rows[:2]))
    store.write_part(to_table(rows[2:]))


@pytest.fixture
def place(tmp_path: Path) -> tuple[LabelStore, Path]:
    folder = tmp_path / "in"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        draw(folder / name, seed)
        os.utime(folder / name, ns=(10**18, 10**18))
    store = LabelStore(str(tmp_path / "out"))
    label(store, folder)
    return store, folder


def plan(store: LabelStore, folder: Path) -> Pending:
    return write_pending(store, list_images(str(folder)), settle_store(store).ids)


def changes_of(store: LabelStore, folder: Path) -> Changes:
    return settle_changes(store, plan(store, folder).changed, ImageLimits(), AddressPolicy(any_local_file=True))


def test_files_that_are_as_they_were_are_not_read(place: tuple[LabelStore, Path]) -> None:
    pending = plan(*place)
    assert (pending.images, pending.listed, pending.changed.images) == (0, 4, 0)


@pytest.mark.parametrize("name", ["a.png", "d.png"])
def test_an_edited_file_loses_its_row_and_is_labelled_again(place: tuple[LabelStore, Path], name: str) -> None:
    store, folder = place
    draw(folder / name, 9)
    changes = changes_of(store, folder)
    assert [image.image_id for image in changes.replaced] == [name]
    assert str(changes) == "files: 1 changed, to be labelled again"
    assert sorted(image.image_id for image in store.images()) == [other for other in NAMES if other != name]
    pending = plan(store, folder)
    assert [image.image_id for image in pending.manifest.read()] == [name]
    assert pending.changed.images == 0


def test_a_file_with_another_date_and_the_same_content_keeps_its_row_and_is_read_once(
    place: tuple[LabelStore, Path],
) -> None:
    store, folder = place
    os.utime(folder / "b.png", ns=(2 * 10**18, 2 * 10**18))
    changes = changes_of(store, folder)
    assert (changes.replaced, changes.same) == ([], 1)
    row = next(image for image in store.images() if image.image_id == "b.png")
    assert row.file_version == f"mtime:{2 * 10**18}"
    assert plan(store, folder).changed.images == 0


def test_a_file_that_cannot_be_read_now_keeps_its_labels(place: tuple[LabelStore, Path]) -> None:
    store, folder = place
    draw(folder / "a.png", 9)
    changed = plan(store, folder).changed
    (folder / "a.png").unlink()
    assert settle_changes(store, changed, ImageLimits(), AddressPolicy(any_local_file=True)).unread == 1
    assert sorted(image.image_id for image in store.images()) == NAMES


def test_a_list_of_local_files_notices_changes_too(place: tuple[LabelStore, Path], tmp_path: Path) -> None:
    store, folder = place
    (folder / "list.txt").write_text("\n".join(NAMES))
    draw(folder / "c.png", 9)
    pending = write_pending(store, list_images(str(folder / "list.txt")), settle_store(store).ids)
    assert [image.image_id for image in pending.changed.read()] == ["c.png"]
