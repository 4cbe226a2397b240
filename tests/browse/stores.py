"""Stores to browse: with pictures, with classes, with errors."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from browse.app import Page, build_app
from browse.collection import Collection
from browse.guard import Guard
from browse.pictures import Pictures
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.labels.mask_ids import with_mask_ids
from everymask.labels.provenance import RunRecord, write_run
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.labels.examples import labels
from tests.serve.pictures import encoded, picture
from ui.client import ServiceClient

CLASSES = ["cat", "dog"]


def rows_with_pictures(folder: Path, count: int = 3) -> list[ImageRow]:
    """Images of 60 x 40 pixels in `folder`, each with a cat and a dog, and one that is no image."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        file = folder / f"photo {number:02d}.png"
        file.write_bytes(encoded(picture(number, (60, 40))))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        found = labels(classes=True)
        masks = tuple(replace(mask, mask_id=None, score=mask.score - 0.01 * number) for mask in found.masks)
        with_ids = with_mask_ids(ImageLabels((40, 60), masks, 0.5, missed=0.1 * number), digest, "0" * 64)
        rows.append(ImageRow(file.name, str(file), with_ids, None, digest))
    rows.append(ImageRow("broken.png", str(folder / "broken.png"), None, "the file is empty (0 bytes)"))
    return rows


def store_of(rows: list[ImageRow], folder: Path, images: Path | None = None) -> LabelStore:
    """A store of one part."""
    store = LabelStore(str(folder))
    configuration = {"input": str(images or folder), "class_names": CLASSES}
    store.write_part(to_table(rows), configuration)
    write_run(store, RunRecord(configuration))
    return store


def collection_of(store: LabelStore, cache: Path) -> Collection:
    """The store, read."""
    made = Collection(store, cache)
    made.renew()
    return made


def guarded(collection: Collection, cache: Path, service: ServiceClient | None = None, key: str | None = None) -> Guard:
    """The whole page of a store whose images lie wherever its rows say."""
    policy = AddressPolicy((), True)
    pictures = Pictures(collection.store, policy, ImageLimits(), cache / "thumbnails")
    return build_app(Page(collection, pictures, service, "ada"), ["testserver"], key)
