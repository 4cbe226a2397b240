"""Sealing a shard: join its small parts, and write a seal that says which parts count.

A seal is written at once, after the parts that it names and before others are deleted. So a kill leaves a shard either
sealed or not, and files that do not count; `tidy` removes those.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from everymask.errors import EverymaskError, OutputError
from everymask.files.location import Location
from everymask.files.storage import one_line
from everymask.labels.id_digests import id_digests
from everymask.labels.parts import PartSummary, copy_rows, read_columns, read_header
from everymask.labels.shards import (
    Seal,
    SealedPart,
    Shard,
    manifest_digest,
    read_manifest_file,
    shard_of_part,
    write_manifest_file,
)
from everymask.labels.store import LabelStore, with_values
from everymask.labels.visible import Visible, part_files, visible_parts
from everymask.wording import counted

TARGET_BYTES = 128 * 2**20
"""Small parts are joined up to this many bytes; repacked, they then have 64 to 256 MiB."""

_AT_ONCE = 2
_DELETED_AT_ONCE = 16


class UnfinishedShardError(EverymaskError):
    """A shard whose rows are not exactly one for each image of its manifest."""


def seal_shard(store: LabelStore, shard: Shard, config_sha256: str, target_bytes: int = TARGET_BYTES) -> Seal:
    """Join the parts of a shard and seal it; a sealed one is left as it is.

    Args:
        store: nobody else may be writing to the shard.
        shard: the shard to seal.
        config_sha256: of the run's configuration.
        target_bytes: of a compacted part.

    Raises:
        UnfinishedShardError: rows are missing, or stand twice; nothing was changed.
        InputError: a part or the manifest is damaged.
        OutputError: the store is not writable.
    """
    found = _visible(store, shard)
    if found.is_sealed:
        assert found.seal is not None
        return found.seal
    kept, small = _to_put_together(found, target_bytes)
    _check_complete(shard, [*(shard.part(part.name) for part in kept), *small])
    generation = secrets.token_hex(4)
    groups = list(_grouped(small, target_bytes))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        made = list(pool.map(partial(_compact, shard, generation), itertools.count(), groups))
    counts = sum((read_header(shard.part(part.name)).summary for part in kept), PartSummary())
    counts = sum((summary for _, summary in made), counts)
    parts = (*kept, *(part for part, _ in made))
    seal = Seal(shard.number, manifest_digest(shard.manifest_files()), config_sha256, counts, parts)
    shard.write_seal(seal)
    tidy(store, shard)
    return seal


def tidy(store: LabelStore, shard: Shard) -> None:
    """Delete a shard's files that do not count, left by a killed run.

    Raises:
        InputError: the seal is damaged.
        OutputError: the store is not writable.
    """
    counting = {part.name for part in _visible(store, shard).parts}
    delete_files(file for file in _files(store, shard) if file.name not in counting)


def tidy_all(store: LabelStore) -> None:
    """As `tidy`, for all shards at once. Raises as `tidy`."""
    counting = {part.name for group in visible_parts(store.root) for part in group.parts}
    files = part_files(store.root)
    delete_files(file for file in files if shard_of_part(file.name) is not None and file.name not in counting)


def reopen_shard(
    store: LabelStore,
    shard: Shard,
    keep: Callable[[pa.Table], Sequence[bool]],
    new: Mapping[str, Mapping[str, Any]] | None = None,
    damaged: Iterable[str] = (),
) -> int:
    """Remove rows from a sealed shard, so that a run can finish it again; returns their number.

    The parts with these rows are rewritten; without any, the shard stays sealed. The shard's small parts are left to
    `LabelStore.keep_rows`.

    Args:
        store: nobody else may be writing to the shard.
        shard: a sealed one, or one that was reopened.
        keep: from the columns image_id, status and content_sha256 of a part, whether each row stays.
        new: new values by image id, then by column; all rows have the same columns.
        damaged: names of unreadable parts; their rows are lost.

    Raises:
        InputError: a part is damaged.
        OutputError: the store is not writable.
    """
    return _replace_parts(store, shard, keep, new or {}, frozenset(damaged), reopen=True)


def erase_from_shard(store: LabelStore, shard: Shard, image_ids: frozenset[str]) -> int:
    """Remove images from a sealed shard's parts and manifest and return the number of rows; it stays sealed.

    Raises:
        InputError: a part or the manifest is damaged.
        OutputError: the store is not writable.
    """
    for file in shard.manifest_files():
        images = read_manifest_file(file)
        listed = pc.is_in(images["image_id"], pa.array(image_ids, pa.string()))
        if pc.any(listed).as_py():
            write_manifest_file(file, images.filter(pc.invert(listed)))
    if shard.seal() is None:
        return 0

    def keep(rows: pa.Table) -> list[bool]:
        return [image_id not in image_ids for image_id in rows["image_id"].to_pylist()]

    return _replace_parts(store, shard, keep, {}, frozenset(), reopen=False)


def _replace_parts(
    store: LabelStore,
    shard: Shard,
    keep: Callable[[pa.Table], Sequence[bool]],
    new: Mapping[str, Mapping[str, Any]],
    damaged: frozenset[str],
    reopen: bool,
) -> int:
    seal = shard.seal()
    assert seal is not None
    generation, dropped = secrets.token_hex(4), 0
    parts: list[SealedPart] = []
    counts = PartSummary()
    for index, part in enumerate(seal.parts):
        if part.name in damaged:
            dropped += part.images
            continue
        file = shard.part(part.name)
        rows = read_columns(file, ["image_id", "status", "content_sha256"])
        stay = list(keep(rows))
        dropped += stay.count(False)
        if all(stay) and new.keys().isdisjoint(rows["image_id"].to_pylist()):
            parts.append(part)
            counts += read_header(file).summary
        elif any(stay):
            target = shard.compacted_part(generation, index)
            summary, size = copy_rows(target, [file], [stay], partial(with_values, new=new))
            parts.append(SealedPart(target.name, size, summary.images))
            counts += summary
    if tuple(parts) != seal.parts:
        is_open = seal.open or (reopen and dropped > 0)
        listed = manifest_digest(shard.manifest_files())
        shard.write_seal(replace(seal, counts=counts, parts=tuple(parts), manifest_sha256=listed, open=is_open))
        tidy(store, shard)
    return dropped


def _visible(store: LabelStore, shard: Shard) -> Visible:
    alike = (one for one in visible_parts(store.root) if one.shard and one.shard.number == shard.number)
    found = next(alike, None)
    return found or Visible(shard, (), shard.seal())


def _files(store: LabelStore, shard: Shard) -> list[Location]:
    """Every part of a shard, counting or not."""
    return [file for file in part_files(store.root) if (shard_of_part(file.name) or (-1,))[0] == shard.number]


def _to_put_together(found: Visible, target_bytes: int) -> tuple[list[SealedPart], list[Location]]:
    """Parts of a former seal that stay as they are, and all others."""
    named = found.seal.parts if found.seal is not None else ()
    kept = [part for part in named if part.bytes >= target_bytes // 2]
    names = {part.name for part in kept}
    return kept, [part for part in found.parts if part.name not in names]


def _check_complete(shard: Shard, parts: list[Location]) -> None:
    with ThreadPoolExecutor(_DELETED_AT_ONCE) as pool:
        rows = _digests(pool.map(lambda part: read_columns(part, ["image_id"]), parts))
        images = _digests(pool.map(lambda file: read_manifest_file(file, ["image_id"]), shard.manifest_files()))
    if not np.array_equal(rows, images):
        missing, strange = np.setdiff1d(images, rows).size, rows.size - np.intersect1d(rows, images).size
        raise UnfinishedShardError(
            f"shard {shard.name} cannot be sealed: of {counted(images.size, 'image')}, {missing:,} without a row; "
            f"{counted(strange, 'row')} of no image, or twice; run the same command again"
        )


def _digests(tables: Iterable[pa.Table]) -> NDArray[np.uint64]:
    """The first halves of the digests of all ids, sorted."""
    found = [id_digests(table["image_id"].to_pylist())[0] for table in tables]
    return np.sort(np.concatenate([np.array([], dtype=np.uint64), *found]))


def _grouped(parts: list[Location], target_bytes: int) -> Iterator[list[Location]]:
    """Groups of parts to join; a last group that is too small joins the one before."""
    if not parts:
        return
    sizes = [info.size for info in parts[0].filesystem.get_file_info([part.path for part in parts])]
    groups: list[list[Location]] = []
    filled = target_bytes
    for part, size in zip(parts, sizes, strict=True):
        if filled >= target_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(part)
        filled += size
    if len(groups) > 1 and filled < target_bytes // 2:
        last = groups.pop()
        groups[-1] += last
    yield from groups


def _compact(shard: Shard, generation: str, index: int, parts: list[Location]) -> tuple[SealedPart, PartSummary]:
    target = shard.compacted_part(generation, index)
    summary, size = copy_rows(target, parts)
    return SealedPart(target.name, size, summary.images), summary


def delete_files(files: Iterable[Location]) -> None:
    """Delete files, many at once.

    Raises:
        OutputError: one cannot be deleted.
    """
    try:
        with ThreadPoolExecutor(_DELETED_AT_ONCE) as pool:
            list(pool.map(Location.delete, files))
    except OSError as error:
        raise OutputError(f"a file cannot be deleted ({one_line(error)}); give write access there") from error
