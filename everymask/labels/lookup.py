"""Reads single images of a label store without reading the others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from everymask.files.location import Location
from everymask.labels.mask_ids import settings_digest, with_mask_ids
from everymask.labels.parts import read_rows
from everymask.labels.rows import ImageRow, from_batch
from everymask.labels.store import LabelStore


def images_at(store: LabelStore, part: Location, rows: Sequence[int]) -> list[ImageRow]:
    """The images in some rows of a part, in order; masks of older formats get the ids they would have had.

    Raises:
        IndexError: the part has no such row.
        InputError: the part is damaged or foreign, or a row is invalid.
        ConfigurationError: it has a newer format.
    """
    images = from_batch(read_rows(part, rows), str(part))
    if all(mask.mask_id is not None for image in images if image.labels for mask in image.labels.masks):
        return images
    digest = settings_digest(store.configuration())
    return [
        replace(image, labels=with_mask_ids(image.labels, image.content_sha256, digest)) if image.labels else image
        for image in images
    ]


def find_images(store: LabelStore, image_ids: Collection[str]) -> dict[str, ImageRow]:
    """Images by id, without those missing from the store. Raises as `images_at`."""
    wanted = set(image_ids)
    found: dict[str, ImageRow] = {}
    for part in store.parts():
        if len(found) == len(wanted):
            break
        ids = store.read_columns(part, ["image_id"])["image_id"].to_pylist()
        rows = [row for row, image_id in enumerate(ids) if image_id in wanted and image_id not in found]
        if rows:
            found.update((image.image_id, image) for image in images_at(store, part, rows))
    return found
