"""Which images still have to be labelled. The label store is its own checkpoint: an image with a row is done."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import ImageRef, batched
from data_jobs.labelling.manifests import Manifest
from everymask.errors import ConfigurationError, InputError, OutputError
from everymask.files.location import Location
from everymask.files.storage import one_line
from everymask.labels.erasure import erased_digests, id_digest
from everymask.labels.parts import DamagedPartError, ForeignPartError
from everymask.labels.parts import verify as verify_part
from everymask.labels.store import LabelStore
from everymask.records import Member

_DONE_COLUMNS = ["image_id", "status", "file_size", "file_version"]
_ROWS_PER_LOOK_UP = 4096
_READERS = 16


@dataclass
class Finished:
    """What an earlier attempt left.

    Attributes:
        ids: images with a row, each with `listing_digest` of what the listing said when it was labelled.
        errors: error rows among them.
        dropped: rows that were removed, to be labelled again or because they stood twice.
        notes: a sentence for each file that was moved out of the way.
        replaced: how many of `ids` have lost their row since, for their file has changed.
    """

    ids: IdSet = field(default_factory=IdSet)
    errors: int = 0
    dropped: int = 0
    notes: list[str] = field(default_factory=list)
    replaced: int = 0

    @property
    def images(self) -> int:
        """How many have a row."""
        return len(self.ids) - self.replaced


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
    owners = IdSet()
    again: list[tuple[int, Location]] = []
    for number, (part, rows) in enumerate(_read_parts(store, verify)):
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
            settled = settle_store(store, retry_failed, verify)
            settled.dropped += finished.dropped
            settled.notes = finished.notes + settled.notes
            return settled
    return finished


def _add_new(ids: IdSet, owners: IdSet, rows: pa.Table, number: int) -> int:
    """Add the rows whose images are not known, as belonging to part `number`; how many they were."""
    columns = (rows[name].to_pylist() for name in ("image_id", "file_size", "file_version"))
    candidates = {image_id: (size, version) for image_id, size, version in zip(*columns, strict=True)}
    known, _ = ids.find(list(candidates))
    new = list(itertools.compress(candidates, ~known))
    ids.add_all(new, np.array([listing_digest(*candidates[image_id]) for image_id in new], dtype=np.uint64))
    owners.add_all(new, np.full(len(new), number, dtype=np.uint64))
    return len(new)


def listing_digest(file_size: int | None, file_version: str | None) -> int:
    """64 bits of what a listing says of a file; 0 where it does not say."""
    if file_version is None:
        return 0
    return int.from_bytes(hashlib.blake2b(f"{file_size} {file_version}".encode(), digest_size=8).digest()) or 1


def _drop_rows(
    store: LabelStore,
    part: Location,
    number: int,
    rows: pa.Table,
    retry_failed: bool,
    finished: Finished,
    owners: IdSet,
) -> None:
    """Rewrite a part that has error rows, or rows that stand elsewhere, once all rows with labels are known."""
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


def _read_parts(store: LabelStore, verify: bool) -> Iterator[tuple[Location, pa.Table | InputError]]:
    """Ids and statuses of every part, or what is wrong with it, a few parts ahead of the caller."""

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
        for parts in batched(store.parts(), 4 * _READERS):
            yield from zip(parts, pool.map(read, parts), strict=True)


@dataclass(frozen=True)
class Pending:
    """The images an attempt has to label.

    Attributes:
        manifest: the list of them.
        listed: images of the input, finished ones included.
        changed: images with a row of which the listing says something else now.
    """

    manifest: Manifest
    listed: int
    changed: Manifest

    @property
    def images(self) -> int:
        """How many there are to label."""
        return self.manifest.images


def write_pending(store: LabelStore, images: Iterable[ImageRef], finished: IdSet) -> Pending:
    """Write the manifest of images that have no row yet, streaming.

    An image that is listed twice is labelled once, one that was erased from the store is passed over.

    Args:
        store: the label store.
        images: as they are listed.
        finished: those with a row, each with its `listing_digest`.

    Raises:
        ConfigurationError: two images have one id.
        OutputError: the store is not writable.
    """
    if erased := erased_digests(store):
        images = (image for image in images if id_digest(image.image_id) not in erased)
    seen = IdSet()
    changed = Manifest.at(store.checkpoint.child("changed"))

    def fresh() -> Iterator[ImageRef]:
        nonlocal changed
        for batch in batched(images, _ROWS_PER_LOOK_UP):
            new = _first_time(batch, seen)
            done, before = finished.find([image.image_id for image in new])
            now = np.array([listing_digest(image.file_size, image.file_version) for image in new], dtype=np.uint64)
            changed = changed.with_more(itertools.compress(new, done & (now != before) & (now != 0) & (before != 0)))
            yield from itertools.compress(new, ~done)

    manifest = Manifest.at(store.checkpoint.child("pending")).with_more(fresh())
    return Pending(manifest, len(seen), changed)


def _first_time(images: list[ImageRef], seen: IdSet) -> list[ImageRef]:
    """Those that are listed for the first time; all of them are seen afterwards."""
    unique: dict[str, ImageRef] = {}
    for image in images:
        if _address(unique.setdefault(image.image_id, image)) != _address(image):
            raise _same_id(image)
    first = list(unique.values())
    # A digest of the address tells a repeated line from two images that share an id.
    addresses = np.array([hash(_address(image)) for image in first], dtype=np.int64).view(np.uint64)
    before, known_addresses = seen.find(list(unique))
    for image in itertools.compress(first, before & (known_addresses != addresses)):
        raise _same_id(image)
    new = list(itertools.compress(first, ~before))
    seen.add_all([image.image_id for image in new], addresses[~before])
    return new


def _address(image: ImageRef) -> tuple[str, Member | None]:
    return image.uri, image.member


def _same_id(image: ImageRef) -> ConfigurationError:
    return ConfigurationError(
        f"two images of the input have the id {image.image_id!r}, one of them {image.uri}; ids must be unique"
    )
