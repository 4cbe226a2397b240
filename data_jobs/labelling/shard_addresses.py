"""Where the images of a shard are read: their addresses stand without secrets in its manifest, which is kept, and with
them in `checkpoint/` until the shard is sealed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import ImageRef, batched
from data_jobs.labelling.manifests import to_table
from everymask.files.location import Location
from everymask.labels.schema import MANIFEST
from everymask.labels.sealing import delete_files
from everymask.labels.shards import Shard, read_manifest_file, write_manifest_file
from everymask.redaction import REPLACEMENT, redact

_ADDRESSES = "checkpoint/addresses"
_MAYBE_SECRET = "[?@#;]"
_ROWS_AT_ONCE = 4096


def write_images(shard: Shard, index: int, images: pa.Table) -> None:
    """Write a file of a shard's manifest from rows of `MANIFEST`.

    Raises:
        OutputError: the store is not writable.
    """
    uris = images["uri"].to_pylist() if pc.any(pc.match_substring_regex(images["uri"], _MAYBE_SECRET)).as_py() else []
    public = list(map(redact, uris))
    if public != uris:
        write_manifest_file(_addresses_file(shard, index), images)
        images = _with_uris(images, pa.array(public))
    write_manifest_file(shard.manifest_file(index), images)


def read_images(shard: Shard) -> Iterator[pa.Table]:
    """The rows of a shard's manifest, file by file, with addresses as they were listed as far as these are kept.

    Raises:
        InputError: the shard's manifest is damaged.
    """
    for index, file in enumerate(shard.manifest_files()):
        images, addresses = read_manifest_file(file), _addresses_file(shard, index)
        if addresses.kind() == "file":
            there = read_manifest_file(addresses)
            images = there.filter(pc.is_in(there["image_id"], images["image_id"].combine_chunks()))
        yield images


def renew_addresses(shards: Sequence[Shard], images: Iterable[ImageRef]) -> None:
    """Let shards be read by the addresses of a later listing; images that it lacks keep theirs.

    A signature ends after hours or days, and those of a sealed shard are forgotten.

    Args:
        shards: not sealed.
        images: as they are listed now.

    Raises:
        InputError: a shard's manifest is damaged.
        OutputError: the store is not writable.
    """
    wanted = IdSet()
    for shard in shards:
        for table in read_images(shard):
            wanted.add_all(table["image_id"].to_pylist())
    now = []
    for batch in batched(images, _ROWS_AT_ONCE):
        there, _ = wanted.find([image.image_id for image in batch])
        now.append(to_table(batch).filter(pa.array(there)).select(["image_id", "uri"]))
    if not now:
        return
    listed = pa.concat_tables(now).combine_chunks()
    for shard in shards:
        for index, table in enumerate(read_images(shard)):
            places = pc.index_in(table["image_id"], listed["image_id"].combine_chunks())
            uris = pc.coalesce(listed["uri"].take(places), table["uri"])
            if not uris.equals(table["uri"]):
                write_manifest_file(_addresses_file(shard, index), _with_uris(table, uris))


def has_secrets(shard: Shard) -> bool:
    """Whether addresses stand in a shard's manifest without something that reading them took.

    Raises:
        InputError: the shard's manifest is damaged.
    """
    uris = (read_manifest_file(file, ["uri"])["uri"] for file in shard.manifest_files())
    return any(pc.any(pc.match_substring(some, REPLACEMENT)).as_py() for some in uris)


def forget_addresses(shard: Shard) -> None:
    """Delete the addresses of a shard's images with their secrets.

    Raises:
        OutputError: the store is not writable.
    """
    files = shard.root.child(_ADDRESSES).entries()
    delete_files(file for file in files if file.name.startswith(f"{shard.name}-"))


def _with_uris(images: pa.Table, uris: pa.Array | pa.ChunkedArray) -> pa.Table:
    return images.set_column(images.schema.get_field_index("uri"), MANIFEST.field("uri"), uris)


def _addresses_file(shard: Shard, index: int) -> Location:
    return shard.root.child(f"{_ADDRESSES}/{shard.name}-{index:04d}.parquet")
