"""Images whose files changed since they were labelled: read again, and labelled again only if their bytes differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_jobs.labelling.inputs import ImageRef, batched
from data_jobs.labelling.manifests import Manifest
from data_jobs.labelling.stages import READ_THREADS, load_bytes
from everymask.files.addresses import AddressPolicy
from everymask.files.location import Location
from everymask.images.decoding import ImageLimits
from everymask.labels.schema import MANIFEST
from everymask.labels.store import LabelStore

_ROWS_AT_A_TIME = 2 * READ_THREADS


@dataclass
class Changes:
    """What became of rows of which the listing says something else than before.

    Attributes:
        replaced: images with other bytes now; their rows are gone.
        same: rows whose image has the bytes it had: a copy changes times.
        unread: rows left as they are, since the file could not be read now.
    """

    replaced: list[ImageRef]
    same: int = 0
    unread: int = 0

    def __str__(self) -> str:
        found = [
            (len(self.replaced), "changed, to be labelled again"),
            (self.same, "with another date and the same content"),
            (self.unread, "that cannot be read now, with their labels kept"),
        ]
        return "files: " + ", ".join(f"{count:,} {what}" for count, what in found if count)


def settle_changes(store: LabelStore, changed: Manifest, limits: ImageLimits, policy: AddressPolicy) -> Changes:
    """Read the images that may have changed, and drop the rows of those that did.

    Rows of the others are brought up to date, so that the next run reads none of them. Rewriting a part is atomic, so
    this may be killed; what was dropped is then pending, and the rest is looked at again.

    Args:
        store: the label store.
        changed: the images, as they are listed now.
        limits: what an image may cost to read.
        policy: what is opened of the images' addresses.

    Raises:
        InputError: a part is damaged.
        OutputError: the store is not writable.
    """
    now = {image.image_id: image for image in changed.read()}
    changes = Changes([])
    for part in store.parts():
        known = store.read_columns(part, ["image_id", "content_sha256"])
        listed = pc.is_in(known["image_id"], pa.array(list(now), pa.string()))
        if pc.any(listed).as_py():
            _settle_part(store, part, known, now, partial(load_bytes, limits=limits, policy=policy), changes)
    return changes


def _settle_part(
    store: LabelStore,
    part: Location,
    known: pa.Table,
    now: dict[str, ImageRef],
    read: Callable[[pa.Table], pa.Table],
    changes: Changes,
) -> None:
    ids: list[str] = known["image_id"].to_pylist()
    before: dict[str, str | None] = dict(zip(ids, known["content_sha256"].to_pylist(), strict=True))
    same: dict[str, dict[str, Any]] = {}
    replaced = set()
    for image, content_sha256 in _digests([now[image_id] for image_id in ids if image_id in now], read):
        if content_sha256 is None:
            changes.unread += 1
        elif content_sha256 == before[image.image_id]:
            same[image.image_id] = {name: asdict(image)[name] for name in ("member", "file_size", "file_version")}
        else:
            replaced.add(image.image_id)
    changes.same += len(same)
    changes.replaced += [now[image_id] for image_id in replaced]
    if same or replaced:
        store.keep_rows(part, [image_id not in replaced for image_id in ids], same)


def _digests(images: list[ImageRef], read: Callable[[pa.Table], pa.Table]) -> Iterator[tuple[ImageRef, str | None]]:
    """Each image, and the digest of its bytes; None where they cannot be read."""
    for batch in batched(images, _ROWS_AT_A_TIME):
        rows = pa.Table.from_pylist([asdict(image) for image in batch], MANIFEST)
        yield from zip(batch, read(rows)["content_sha256"].to_pylist(), strict=True)
