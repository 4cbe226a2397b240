"""Mending a shard whose seal is damaged, from the parts that lie beside it: no label is lost, and none stands twice."""

from __future__ import annotations

import secrets

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everymask.errors import OutputError
from everymask.files.location import Location
from everymask.files.storage import one_line
from everymask.labels.id_digests import id_digests
from everymask.labels.parts import DamagedPartError, ForeignPartError, PartSummary, copy_rows, read_columns, read_header
from everymask.labels.sealing import tidy
from everymask.labels.shards import (
    DamagedSealError,
    Seal,
    SealedPart,
    Shard,
    manifest_digest,
    read_manifest_file,
    shard_of_part,
    shards_of,
)
from everymask.labels.store import LabelStore
from everymask.labels.visible import part_files
from everymask.wording import counted


def mend_seals(store: LabelStore, config_sha256: str) -> list[str]:
    """Write damaged seals anew; returns a sentence for each.

    The mended shards are open: the next run labels what they lack, and seals them.

    Args:
        store: nobody else may be writing to it.
        config_sha256: of the run's configuration.

    Raises:
        InputError: the manifest of such a shard is damaged, too, or the storage does not answer.
        OutputError: the store is not writable.
    """
    notes = []
    for shard in shards_of(store.root):
        try:
            shard.seal()
        except DamagedSealError:
            found = _mend(store, shard, config_sha256)
            notes.append(f"{shard.seal_file} was damaged; it is made again from parts with {counted(found, 'image')}")
    return notes


def _mend(store: LabelStore, shard: Shard, config_sha256: str) -> int:
    """Write an open seal of all compacted parts; where two have an image, the newer one keeps it."""
    listed = np.concatenate([_digests(read_manifest_file(file, ["image_id"])) for file in shard.manifest_files()])
    generation = secrets.token_hex(4)
    parts: list[SealedPart] = []
    counts = PartSummary()
    for index, (file, size) in enumerate(_compacted(store, shard)):
        try:
            digests = _digests(read_columns(file, ["image_id"]))
        except (DamagedPartError, ForeignPartError):
            _set_aside(store, file)
            continue
        keep = np.isin(digests, listed)
        listed = listed[~np.isin(listed, digests)]
        if keep.all():
            summary, part = read_header(file).summary, SealedPart(file.name, size, len(keep))
        elif keep.any():
            target = shard.compacted_part(generation, index)
            summary, size = copy_rows(target, [file], [keep.tolist()])
            part = SealedPart(target.name, size, summary.images)
        else:
            continue
        parts.append(part)
        counts += summary
    digest = manifest_digest(shard.manifest_files())
    shard.write_seal(Seal(shard.number, digest, config_sha256, counts, tuple(parts), open=True))
    tidy(store, shard)
    return counts.images


def _compacted(store: LabelStore, shard: Shard) -> list[tuple[Location, int]]:
    """The compacted parts of a shard with their bytes, the newest first."""
    files = [file for file in part_files(store.root) if shard_of_part(file.name) == (shard.number, True)]
    if not files:
        return []
    states = files[0].filesystem.get_file_info([file.path for file in files])
    newest_first = sorted(zip(files, states, strict=True), key=lambda found: -(found[1].mtime_ns or 0))
    return [(file, state.size) for file, state in newest_first]


def _digests(rows: pa.Table) -> NDArray[np.uint64]:
    """The first halves of the digests of a table's ids."""
    return id_digests(rows["image_id"].to_pylist())[0]


def _set_aside(store: LabelStore, file: Location) -> None:
    try:
        store.set_aside(file, "damaged")
    except OSError as error:
        raise OutputError(f"cannot move {file} out of the way: {one_line(error)}; give write access there") from error
