"""Cutting a large input into the shards of a store, and finding a shard's unlabelled images.

A shard's manifest never grows. One that a kill has cut short is a smaller shard; the images it lacks go into a later
one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import ImageRef, batched
from data_jobs.labelling.listing import listing_digest
from data_jobs.labelling.manifests import Manifest, to_table
from everymask.errors import OutputError
from everymask.files.location import Location
from everymask.files.storage import one_line
from everymask.labels.schema import MANIFEST
from everymask.labels.sealing import delete_files
from everymask.labels.shards import Shard, read_manifest_file, shards_of, write_manifest_file
from everymask.labels.store import LabelStore
from everymask.redaction import redact

FIRST_SHARD_IMAGES = 65_536
"""A first shard is no larger, so that labelling begins while most of the input is still to be listed."""
_ROWS_PER_FILE = 65_536
_ROWS_AT_ONCE = 4096
_ADDRESSES = "checkpoint/addresses"
_MAYBE_SECRET = "[?@#;]"


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
            _write_manifest(shard, index, pa.concat_tables(waiting))
            index, waiting = index + 1, []
    if waiting:
        _write_manifest(shard, index, pa.concat_tables(waiting))
    return shard if index or waiting else None


def _write_manifest(shard: Shard, index: int, images: pa.Table) -> None:
    """Write a file of a shard's manifest, which is kept, without the secrets of addresses; these go beside it."""
    uris = images["uri"].to_pylist() if pc.any(pc.match_substring_regex(images["uri"], _MAYBE_SECRET)).as_py() else []
    public = list(map(redact, uris))
    if public != uris:
        write_manifest_file(_addresses_file(shard, index), images)
        images = images.set_column(images.schema.get_field_index("uri"), MANIFEST.field("uri"), pa.array(public))
    write_manifest_file(shard.manifest_file(index), images)


def _read_manifest(shard: Shard) -> Iterator[pa.Table]:
    """The images of a shard, file by file, with addresses as they were listed while these are kept."""
    for index, file in enumerate(shard.manifest_files()):
        images, addresses = read_manifest_file(file), _addresses_file(shard, index)
        if addresses.kind() == "file":
            there = read_manifest_file(addresses)
            images = there.filter(pc.is_in(there["image_id"], images["image_id"].combine_chunks()))
        yield images


def _addresses_file(shard: Shard, index: int) -> Location:
    return shard.root.child(f"{_ADDRESSES}/{shard.name}-{index:04d}.parquet")


def forget_addresses(shard: Shard) -> None:
    """Delete the signed addresses of a shard's images.

    Raises:
        OutputError: the store is not writable.
    """
    files = shard.root.child(_ADDRESSES).entries()
    delete_files(file for file in files if file.name.startswith(f"{shard.name}-"))


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
        for images in _read_manifest(shard):
            if len(done):
                found, _ = done.find(images["image_id"].to_pylist())
                images = images.filter(pa.array(~found))
            yield images

    return Manifest.at(store.checkpoint.child("pending")).with_tables(tables())


def note_versions(shard: Shard, now: dict[str, ImageRef]) -> None:
    """Update images in a shard's manifest by a later listing of them.

    Raises:
        InputError: the shard's manifest is damaged.
        OutputError: the store is not writable.
    """
    for index, table in enumerate(_read_manifest(shard)):
        images = table.to_pylist()
        if any(row["image_id"] in now for row in images):
            newer = to_table([now[row["image_id"]] for row in images if row["image_id"] in now]).to_pylist()
            by_id = {row["image_id"]: row for row in newer}
            rows = [by_id.get(row["image_id"], row) for row in images]
            _write_manifest(shard, index, pa.Table.from_pylist(rows, MANIFEST))
