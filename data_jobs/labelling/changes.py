"""Images whose files changed since they were labelled: read again, and labelled again only if their bytes differ."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from data_jobs.labelling.digests import Digests, ReadDigests, read_here
from data_jobs.labelling.inputs import ImageRef, batched
from data_jobs.labelling.manifests import Manifest, to_table
from data_jobs.labelling.sharding import note_versions
from data_jobs.labelling.stages import READ_THREADS
from everymask.files.addresses import AddressPolicy
from everymask.files.location import Location
from everymask.images.decoding import ImageLimits
from everymask.labels.sealing import reopen_shard
from everymask.labels.shards import Shard
from everymask.labels.store import LabelStore
from everymask.labels.visible import Visible

_ROWS_AT_A_TIME = 2 * READ_THREADS

Read = Callable[[Iterable[pa.Table]], Iterator[Digests]]
"""A `ReadDigests` with its limits."""


@dataclass
class Changes:
    """The result for rows whose listing has changed.

    Attributes:
        replaced: images of no shard whose bytes differ; their rows are dropped.
        reopened: shards with such images; these are in the shards' manifests.
        dropped: number of dropped rows.
        same: rows of images with unchanged bytes, since a copy changes times.
        unread: rows left as they are, since the file could not be read.
    """

    replaced: list[ImageRef] = field(default_factory=list)
    reopened: list[Shard] = field(default_factory=list)
    dropped: int = 0
    same: int = 0
    unread: int = 0

    def __str__(self) -> str:
        found = [
            (self.dropped, "changed, to be labelled again"),
            (self.same, "with another date and the same content"),
            (self.unread, "that cannot be read now, with their labels kept"),
        ]
        return "files: " + ", ".join(f"{count:,} {what}" for count, what in found if count)


def settle_changes(
    store: LabelStore,
    changed: Manifest,
    limits: ImageLimits,
    policy: AddressPolicy,
    read_digests: ReadDigests = read_here,
) -> Changes:
    """Read the images that may have changed, and drop the rows of those that did.

    The other rows take the new listing, so that the next run reads none of them. Rewriting a part is atomic, so this
    may be killed: dropped images are then pending, and the rest is checked again.

    Args:
        store: the label store. No shard is being sealed.
        changed: the images, as they are listed now.
        limits: bounds on reading an image.
        policy: restricts the addresses that are opened.
        read_digests: reads the files.

    Raises:
        InputError: a part is damaged.
        OutputError: the store is not writable.
    """
    now = {image.image_id: image for image in changed.read()}

    def read(tables: Iterable[pa.Table]) -> Iterator[Digests]:
        return read_digests(tables, limits, policy)

    changes = Changes()
    for group in store.groups():
        found = _settle_small_parts(store, group, now, read)
        if group.shard is None:
            changes.replaced += [now[image_id] for image_id in sorted(found.replaced)]
        else:
            found.add(_settle_sealed_parts(store, group.shard, group, now, read))
            note_versions(group.shard, {image_id: now[image_id] for image_id in found.replaced | found.same.keys()})
            changes.reopened += [group.shard] if found.replaced else []
        changes.dropped += len(found.replaced)
        changes.same += len(found.same)
        changes.unread += found.unread
    return changes


@dataclass
class _Fates:
    """Decisions on rows: new values by id, ids of rows to drop, and the number of unreadable images."""

    same: dict[str, dict[str, Any]] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)
    unread: int = 0

    def add(self, other: _Fates) -> None:
        self.same |= other.same
        self.replaced |= other.replaced
        self.unread += other.unread


def _settle_small_parts(store: LabelStore, group: Visible, now: Mapping[str, ImageRef], read: Read) -> _Fates:
    found = _Fates()
    for part in group.small:
        ids, fates = _fates(store, part, now, read)
        if fates.same or fates.replaced:
            store.keep_rows(part, [image_id not in fates.replaced for image_id in ids], fates.same)
        found.add(fates)
    return found


def _settle_sealed_parts(
    store: LabelStore, shard: Shard, group: Visible, now: Mapping[str, ImageRef], read: Read
) -> _Fates:
    found = _Fates()
    for part in group.sealed:
        found.add(_fates(store, part, now, read)[1])

    def keep(rows: pa.Table) -> list[bool]:
        return [image_id not in found.replaced for image_id in rows["image_id"].to_pylist()]

    if found.same or found.replaced:
        reopen_shard(store, shard, keep, found.same)
    return found


def _fates(store: LabelStore, part: Location, now: Mapping[str, ImageRef], read: Read) -> tuple[list[str], _Fates]:
    """The ids of a part's rows, and the decisions on those that may have changed."""
    known = store.read_columns(part, ["image_id", "content_sha256"])
    ids: list[str] = known["image_id"].to_pylist()
    before: dict[str, str | None] = dict(zip(ids, known["content_sha256"].to_pylist(), strict=True))
    fates = _Fates()
    for image, content_sha256 in _digests([now[image_id] for image_id in ids if image_id in now], read):
        if content_sha256 is None:
            fates.unread += 1
        elif content_sha256 == before[image.image_id]:
            fates.same[image.image_id] = {name: asdict(image)[name] for name in ("member", "file_size", "file_version")}
        else:
            fates.replaced.add(image.image_id)
    return ids, fates


def _digests(images: list[ImageRef], read: Read) -> Iterator[tuple[ImageRef, str | None]]:
    """Each image, and the digest of its bytes; None if they cannot be read."""
    found = read(map(to_table, batched(images, _ROWS_AT_A_TIME)))
    return zip(images, itertools.chain.from_iterable(found), strict=True)
