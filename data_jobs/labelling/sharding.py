"""Cutting a large input into the shards of a store, and finding a shard's unlabelled images.

A shard's manifest never grows. One that a kill has cut short is a smaller shard; the images it lacks go into a later
one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import ImageRef, batched
from data_jobs.labelling.listing import listing_digest
from data_jobs.labelling.manifests import Manifest, to_table
from data_jobs.labelling.shard_addresses import forget_addresses, read_images, write_images
from everymask.errors import OutputError
from everymask.files.storage import one_line
from everymask.labels.schema import MANIFEST
from everymask.labels.shards import Shard, read_manifest_file, shards_of
from everymask.labels.store import LabelStore

FIRST_SHARD_IMAGES = 65_536
"""A first shard is no larger, so that labelling begins while most of the input is still to be listed."""
_ROWS_PER_FILE = 65_536
_ROWS_AT_ONCE = 4096


def cut(store: LabelStore, images: Iterator[ImageRef], size: int) -> Iterator[Shard]:
    """Write images into new shards of `size`; yields each once its manifest is whole.

    Raises:
        OutputError: the store is not writable.
    """
    for number in itertools.count(next_number(store)):
        some = itertools.islice(images, size)
        tables = (to_table(batch) for batch in batched(some, _ROWS_AT_ONCE))
        if (shard := write_shard(store, number, tables)) is None:
            return
        yield shard


def next_number(store: LabelStore) -> int:
    """The number after the last shard's."""
    return max((shard.number for shard in shards_of(store.root)), default=-1) + 1


def write_shard(store: LabelStore, number: int, images: Iterable[pa.Table]) -> Shard | None:
    """Write the manifest of a shard from rows of `MANIFEST`; None where there are none.

    Raises:
        OutputError: the store is not writable.
    """
    shard = Shard(store.root, number)
    index = 0
    waiting: list[pa.Table] = []
    for table in images:
        waiting.append(table)
        if sum(one.num_rows for one in waiting) >= _ROWS_PER_FILE:
            write_images(shard, index, pa.concat_tables(waiting))
            index, waiting = index + 1, []
    if waiting:
        write_images(shard, index, pa.concat_tables(waiting))
    return shard if index or waiting else None


def add_listed(store: LabelStore, known: IdSet) -> None:
    """Add the images of all shards, each with its `listing_digest`.

    Raises:
        InputError: a manifest is damaged.
    """
    for shard in shards_of(store.root):
        for file in shard.manifest_files():
            images = read_manifest_file(file, ["image_id", "file_size", "file_version"])
            ids, sizes, versions = (column.to_pylist() for column in images.columns)
            digests = np.array(list(map(listing_digest, sizes, versions)), dtype=np.uint64)
            there, _ = known.find(ids)
            known.add_all(list(itertools.compress(ids, ~there)), digests[~there])


def drop_unlabelled(store: LabelStore) -> None:
    """Delete shards without a row before the input is listed again: boundaries only matter where there are labels.

    Raises:
        OutputError: the store is not writable.
    """
    labelled = {group.shard.number for group in store.groups() if group.shard is not None}
    for shard in shards_of(store.root):
        if shard.number not in labelled:
            forget_addresses(shard)
            try:
                shard.folder.delete()
            except OSError as error:
                raise OutputError(
                    f"cannot delete {shard.folder} ({one_line(error)}); give write access there"
                ) from error


def pending_of(store: LabelStore, shard: Shard, done: IdSet) -> Manifest:
    """List a shard's unfinished images where lists of pending images are.

    Raises:
        InputError: the shard's manifest is damaged.
        OutputError: the store is not writable.
    """

    def tables() -> Iterator[pa.Table]:
        for images in read_images(shard):
            if len(done):
                found, _ = done.find(images["image_id"].to_pylist())
                images = images.filter(pa.array(~found))
            yield images

    return Manifest.at(store.pending).with_tables(tables())


def note_versions(shard: Shard, now: dict[str, ImageRef]) -> None:
    """Update images in a shard's manifest by a later listing of them.

    Raises:
        InputError: the shard's manifest is damaged.
        OutputError: the store is not writable.
    """
    for index, table in enumerate(read_images(shard)):
        images = table.to_pylist()
        if any(row["image_id"] in now for row in images):
            newer = to_table([now[row["image_id"]] for row in images if row["image_id"] in now]).to_pylist()
            by_id = {row["image_id"]: row for row in newer}
            rows = [by_id.get(row["image_id"], row) for row in images]
            write_images(shard, index, pa.Table.from_pylist(rows, MANIFEST))
