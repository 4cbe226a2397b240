"""Which images still have to be labelled. The label store is its own checkpoint: an image with a row is done."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import ImageRef
from everymask.errors import ConfigurationError, InputError, OutputError
from everymask.files.location import Location
from everymask.files.storage import one_line
from everymask.labels.parts import DamagedPartError, ForeignPartError
from everymask.labels.parts import verify as verify_part
from everymask.labels.store import LabelStore

MANIFEST_SCHEMA = pa.schema([("image_id", pa.string()), ("uri", pa.string())])
_ROWS_PER_LOOK_UP = 4096
_ROWS_PER_MANIFEST_FILE = 4096
_READERS = 16

T = TypeVar("T")


@dataclass
class Finished:
    """What an earlier attempt left.

    Attributes:
        ids: images with a row.
        errors: error rows among them.
        dropped: rows that were removed, to be labelled again or because they stood twice.
        notes: a sentence for each file that was moved out of the way.
    """

    ids: IdSet = field(default_factory=IdSet)
    errors: int = 0
    dropped: int = 0
    notes: list[str] = field(default_factory=list)


def settle_store(store: LabelStore, retry_failed: bool = False, verify: bool = False) -> Finished:
    """Read which images are done, and mend the store on the way: afterwards every image has at most one row.

    A row stands twice if a killed driver's last write landed while the next driver was already at work. Of an image's
    rows one with labels stays, whatever comes first. Parts that are damaged or foreign move to the quarantine, so that
    their images are pending again. Rewriting a part is atomic, so this may be killed too.

    Args:
        store: the label store.
        retry_failed: also drop the rows of failed images, so that they count as not done.
        verify: read every page of every part, not only ids.

    Raises:
        ConfigurationError: a part has a newer format.
        InputError: the storage does not answer.
        OutputError: the store is not writable.
    """
    finished = Finished()
    again: list[tuple[int, Location]] = []
    for number, (part, rows) in enumerate(_read_parts(store, verify)):
        if isinstance(rows, InputError):
            _set_aside(store, part, rows, finished)
            continue
        labelled = rows.filter(pc.equal(rows["status"], "ok"))["image_id"].to_pylist()
        new = _add_new(finished.ids, labelled, number)
        if new < rows.num_rows:
            again.append((number, part))
    for number, part in again:
        try:
            rows = store.read_columns(part, ["image_id", "status"])
            _drop_rows(store, part, number, rows, retry_failed, finished)
        except InputError as problem:  # found only now, where all of it is read; its images are not done after all
            _set_aside(store, part, problem, finished)
            settled = settle_store(store, retry_failed, verify)
            settled.dropped += finished.dropped
            settled.notes = finished.notes + settled.notes
            return settled
    return finished


def _add_new(ids: IdSet, candidates: list[str], number: int) -> int:
    """Add those that are not known, as belonging to part `number`; how many they were."""
    candidates = list(dict.fromkeys(candidates))
    known, _ = ids.find(candidates)
    new = list(itertools.compress(candidates, ~known))
    ids.add_all(new, np.full(len(new), number, dtype=np.uint64))
    return len(new)


def _drop_rows(
    store: LabelStore, part: Location, number: int, rows: pa.Table, retry_failed: bool, finished: Finished
) -> None:
    """Rewrite a part that has error rows, or rows that stand elsewhere, once all rows with labels are known."""
    ids = rows["image_id"].to_pylist()
    known, owner = finished.ids.find(ids)
    keep, here, failed = [], set(), []
    for image_id, status, elsewhere, where in zip(ids, rows["status"].to_pylist(), known, owner, strict=True):
        error = status == "error"
        wanted = not retry_failed and not elsewhere if error else int(where) == number
        keep.append(wanted and image_id not in here)
        if keep[-1]:
            here.add(image_id)
            failed += [image_id] if error else []
    _add_new(finished.ids, failed, number)
    finished.errors += len(failed)
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


def _read_parts(store: LabelStore, verify: bool) -> Iterator[tuple[Location, pa.Table | InputError]]:
    """Ids and statuses of every part, or what is wrong with it, a few parts ahead of the caller."""

    def read(part: Location) -> pa.Table | InputError:
        try:
            if verify:
                verify_part(part)
            rows = store.read_columns(part, ["image_id", "status"])
            if rows["image_id"].null_count or rows["status"].null_count:
                return ForeignPartError(f"{part} has rows without an image_id or a status")
            return rows
        except InputError as error:
            return error

    with ThreadPoolExecutor(_READERS) as pool:
        for parts in _batched(store.parts(), 4 * _READERS):
            yield from zip(parts, pool.map(read, parts), strict=True)


@dataclass(frozen=True)
class Pending:
    """The images an attempt has to label.

    Attributes:
        folder: a folder of Parquet files with `MANIFEST_SCHEMA`.
        images: how many.
        listed: images of the input, finished ones included.
        files: manifest files in the folder.
    """

    folder: Location
    images: int
    listed: int
    files: int

    def manifests(self) -> list[Location]:
        """The manifest files, in order."""
        return [_manifest_file(self.folder, index) for index in range(self.files)]


def _manifest_file(folder: Location, index: int) -> Location:
    return folder.child(f"{index:06d}.parquet")


def write_pending(store: LabelStore, images: Iterable[ImageRef], finished: IdSet) -> Pending:
    """Write the manifest of images that have no row yet, streaming.

    An image that is listed twice is labelled once.

    Raises:
        ConfigurationError: two images have one id.
        OutputError: the store is not writable.
    """
    folder = store.checkpoint.child("pending")
    folder.delete()
    seen = IdSet()
    pending = files = 0
    fresh = itertools.chain.from_iterable(
        _fresh(batch, seen, finished) for batch in _batched(images, _ROWS_PER_LOOK_UP)
    )
    for batch in _batched(fresh, _ROWS_PER_MANIFEST_FILE):
        table = pa.table([[image.image_id for image in batch], [image.uri for image in batch]], schema=MANIFEST_SCHEMA)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        _manifest_file(folder, files).write(sink.getvalue())
        pending += len(batch)
        files += 1
    return Pending(folder, pending, len(seen), files)


def _fresh(images: list[ImageRef], seen: IdSet, finished: IdSet) -> list[ImageRef]:
    """Those that are listed for the first time and have no row; all of them are seen afterwards."""
    unique: dict[str, ImageRef] = {}
    for image in images:
        if unique.setdefault(image.image_id, image).uri != image.uri:
            raise _same_id(image)
    first = list(unique.values())
    # A digest of the address tells a repeated line from two images that share an id.
    addresses = np.array([hash(image.uri) for image in first], dtype=np.int64).view(np.uint64)
    before, known_addresses = seen.find(list(unique))
    for image in itertools.compress(first, before & (known_addresses != addresses)):
        raise _same_id(image)
    new = list(itertools.compress(first, ~before))
    ids = [image.image_id for image in new]
    seen.add_all(ids, addresses[~before])
    done, _ = finished.find(ids)
    return list(itertools.compress(new, ~done))


def _same_id(image: ImageRef) -> ConfigurationError:
    return ConfigurationError(
        f"two images of the input have the id {image.image_id!r}, one of them {image.uri}; ids must be unique"
    )


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
