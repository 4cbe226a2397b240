"""Finds the images still to label. The label store is its own checkpoint: an image with a row is done."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import ImageRef, batched
from data_jobs.labelling.listing import Listing, listing_digest
from data_jobs.labelling.manifests import Manifest
from everymask.errors import InputError, OutputError
from everymask.files.location import Location
from everymask.files.storage import one_line
from everymask.labels.parts import DamagedPartError, ForeignPartError, MissingPartError
from everymask.labels.parts import verify as verify_part
from everymask.labels.sealing import reopen_shard, tidy
from everymask.labels.shards import Shard
from everymask.labels.store import LabelStore
from everymask.labels.visible import Visible

_DONE_COLUMNS = ["image_id", "status", "file_size", "file_version"]
_READERS = 16
_OF_A_SEAL = 2**63


@dataclass
class Finished:
    """The state that an earlier attempt left.

    Attributes:
        ids: images with a row, each with the `listing_digest` of when it was labelled.
        errors: error rows among them.
        dropped: rows removed as duplicates or to be labelled again.
        notes: a sentence for each file that was moved to the quarantine.
        replaced: number of `ids` whose rows were dropped later because their files changed.
    """

    ids: IdSet = field(default_factory=IdSet)
    errors: int = 0
    dropped: int = 0
    notes: list[str] = field(default_factory=list)
    replaced: int = 0

    @property
    def images(self) -> int:
        return len(self.ids) - self.replaced


def settle_store(
    store: LabelStore, retry_failed: bool = False, verify: bool = False, shard: Shard | None = None
) -> Finished:
    """Find the finished images, and repair the store: afterwards every image has at most one row.

    A row stands twice if a killed driver's last write landed while the next driver was already at work. Of an image's
    rows one with labels stays, in whatever order. Damaged and foreign parts move to the quarantine, so that their
    images are pending again. Rewriting a part is atomic, so this may be killed too.

    Args:
        store: the label store.
        retry_failed: also drop the rows of failed images, so that they are labelled again.
        verify: read every page of every part, not only ids.
        shard: one that is not sealed; None for the parts that belong to no shard.

    Raises:
        ConfigurationError: a part has a newer format.
        InputError: the storage does not answer.
        OutputError: the store is not writable.
    """
    finished = Finished()
    owners = IdSet()
    again: list[tuple[int, Location]] = []
    group = _group(store, shard)
    if group.shard is not None and group.seal is not None:
        open_shard(store, group.shard, retry_failed, verify, finished, owners)
    for number, (part, rows) in enumerate(_read_parts(store, group.small, verify)):
        if isinstance(rows, InputError):
            _set_aside(store, part, rows, finished)
            continue
        new = _add_new(finished.ids, owners, rows.filter(pc.equal(rows["status"], "ok")), number)
        if new < rows.num_rows:
            again.append((number, part))
    for number, part in again:
        try:
            rows = store.read_columns(part, _DONE_COLUMNS)
            _drop_rows(store, part, number, rows, retry_failed, finished, owners)
        except InputError as problem:  # found only now, where all of it is read; its images are not done after all
            _set_aside(store, part, problem, finished)
            settled = settle_store(store, retry_failed, verify, shard)
            settled.dropped += finished.dropped
            settled.notes = finished.notes + settled.notes
            return settled
    return finished


def _group(store: LabelStore, shard: Shard | None) -> Visible:
    number = None if shard is None else shard.number
    groups = (group for group in store.groups() if (group.shard.number if group.shard else None) == number)
    return next(groups, Visible(shard, ()))


def open_shard(
    store: LabelStore, shard: Shard, retry_failed: bool, verify: bool, finished: Finished, owners: IdSet
) -> None:
    """Drop damaged parts and, with `retry_failed`, error rows from the parts that a seal names.

    Args:
        store: the label store.
        shard: sealed, or reopened before. If nothing is dropped, it stays as it is.
        retry_failed: drop the rows of failed images.
        verify: read every page of every part.
        finished: collects the remaining images.
        owners: collects the remaining ids, as belonging to no small part.

    Raises:
        InputError: the storage does not answer.
        OutputError: the store is not writable.
    """
    seal = shard.seal()
    assert seal is not None
    tidy(store, shard)
    unusable = []
    for part, rows in _read_parts(store, [shard.part(part.name) for part in seal.parts], verify):
        if isinstance(rows, MissingPartError):
            unusable.append(part.name)
        elif isinstance(rows, InputError):
            _set_aside(store, part, rows, finished)
            unusable.append(part.name)
        else:
            stay = rows.filter(pc.equal(rows["status"], "ok")) if retry_failed else rows
            _add_new(finished.ids, owners, stay, _OF_A_SEAL)
            finished.errors += pc.sum(pc.equal(stay["status"], "error")).as_py() or 0
    if unusable or (retry_failed and seal.counts.errors):

        def keep(rows: pa.Table) -> list[bool]:
            return [not retry_failed or status == "ok" for status in rows["status"].to_pylist()]

        finished.dropped += reopen_shard(store, shard, keep, damaged=unusable)


def reopen_asked(store: LabelStore, retry_failed: bool, verify: bool, finished: Finished) -> None:
    """Drop rows to be labelled again from sealed shards; adds dropped rows and moved files to `finished`.

    Raises as `open_shard`.
    """
    for group in store.groups():
        if group.shard is None or group.seal is None or not group.is_sealed:
            continue
        if verify or (retry_failed and group.seal.counts.errors):
            found = Finished()
            open_shard(store, group.shard, retry_failed, verify, found, IdSet())
            finished.dropped += found.dropped
            finished.notes += found.notes


def _add_new(ids: IdSet, owners: IdSet, rows: pa.Table, number: int) -> int:
    """Add the rows of unknown images, as belonging to part `number`; returns their number."""
    columns = (rows[name].to_pylist() for name in ("image_id", "file_size", "file_version"))
    candidates = {image_id: (size, version) for image_id, size, version in zip(*columns, strict=True)}
    known, _ = ids.find(list(candidates))
    new = list(itertools.compress(candidates, ~known))
    ids.add_all(new, np.array([listing_digest(*candidates[image_id]) for image_id in new], dtype=np.uint64))
    owners.add_all(new, np.full(len(new), number, dtype=np.uint64))
    return len(new)


def _drop_rows(
    store: LabelStore,
    part: Location,
    number: int,
    rows: pa.Table,
    retry_failed: bool,
    finished: Finished,
    owners: IdSet,
) -> None:
    """Rewrite a part without unwanted error rows and duplicates, once all rows with labels are known."""
    ids = rows["image_id"].to_pylist()
    known, owner = owners.find(ids)
    keep, here, failed = [], set(), []
    for image_id, status, elsewhere, where in zip(ids, rows["status"].to_pylist(), known, owner, strict=True):
        error = status == "error"
        wanted = not retry_failed and not elsewhere if error else int(where) == number
        keep.append(wanted and image_id not in here)
        if keep[-1]:
            here.add(image_id)
        failed.append(keep[-1] and error)
    finished.errors += _add_new(finished.ids, owners, rows.filter(pa.array(failed)), number)
    if not all(keep):
        store.keep_rows(part, keep)
        finished.dropped += keep.count(False)


def _set_aside(store: LabelStore, part: Location, problem: InputError, finished: Finished) -> None:
    if not isinstance(problem, DamagedPartError | ForeignPartError):
        raise problem
    reason = "foreign" if isinstance(problem, ForeignPartError) else "damaged"
    try:
        target = store.set_aside(part, reason)
    except OSError as error:
        raise OutputError(f"cannot move {part} out of the way: {one_line(error)}; give write access there") from error
    again = "" if reason == "foreign" else "; its images are labelled again"
    finished.notes.append(f"{part.name} is {reason} and was moved to {target}{again}")


def _read_parts(
    store: LabelStore, those: Iterable[Location], verify: bool
) -> Iterator[tuple[Location, pa.Table | InputError]]:
    """Ids and statuses of every part, or its fault, a few parts ahead of the caller."""

    def read(part: Location) -> pa.Table | InputError:
        try:
            if verify:
                verify_part(part)
            rows = store.read_columns(part, _DONE_COLUMNS)
            if rows["image_id"].null_count or rows["status"].null_count:
                return ForeignPartError(f"{part} has rows without an image_id or a status")
            return rows
        except InputError as error:
            return error

    with ThreadPoolExecutor(_READERS) as pool:
        for parts in batched(those, 4 * _READERS):
            yield from zip(parts, pool.map(read, parts), strict=True)


@dataclass(frozen=True)
class Pending:
    """The images that an attempt has to label.

    Attributes:
        manifest: the list of them.
        listed: images of the input, finished ones included.
        changed: images with a row whose listing has changed.
    """

    manifest: Manifest
    listed: int
    changed: Manifest

    @property
    def images(self) -> int:
        """Number of images to label."""
        return self.manifest.images


def write_pending(store: LabelStore, images: Iterable[ImageRef], finished: IdSet) -> Pending:
    """Write the manifest of images without a row, streaming.

    An image that is listed twice is labelled once; erased images are skipped.

    Args:
        store: the label store.
        images: as they are listed.
        finished: those with a row, each with its `listing_digest`.

    Raises:
        ConfigurationError: two images have one id.
        OutputError: the store is not writable.
    """
    listing = Listing(store, images, finished)
    manifest = Manifest.at(store.pending).with_more(listing.new())
    return Pending(manifest, listing.listed, listing.changed)
