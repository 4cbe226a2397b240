"""Which images still have to be labelled. The label store is its own checkpoint: an image with a row is done."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import ImageRef
from everymask.errors import ConfigurationError
from everymask.labels.store import LabelStore
from everymask.storage import write_whole

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
        damaged: parts that were removed because they cannot be read.
        dropped: rows that were removed, to be labelled again or because they stood twice.
    """

    ids: IdSet = field(default_factory=IdSet)
    errors: int = 0
    damaged: int = 0
    dropped: int = 0


def settle_store(store: LabelStore, retry_failed: bool = False) -> Finished:
    """Read which images are done, and mend the store on the way: afterwards every image has at most one row.

    A row stands twice if a killed driver's last write landed while the next driver was already at work. A part is
    unreadable if the machine lost power while writing it. Rewriting a part is atomic, so this may be killed too.

    Args:
        store: the label store.
        retry_failed: also drop the rows of failed images, so that they count as not done.

    Raises:
        OutputError: the store is not writable.
    """
    finished = Finished()
    for part, rows in _read_parts(store):
        if rows is None:
            store.filesystem.delete_file(part)
            finished.damaged += 1
            continue
        ids = rows["image_id"].to_pylist()
        failed = [status == "error" for status in rows["status"].to_pylist()]
        before, _ = finished.ids.find(ids)
        keep = [not known and not (retry_failed and error) for known, error in zip(before, failed, strict=True)]
        finished.ids.add_all(list(itertools.compress(ids, keep)))
        finished.errors += sum(itertools.compress(failed, keep))
        if not all(keep):
            store.keep_rows(part, keep)
            finished.dropped += keep.count(False)
    return finished


def _read_parts(store: LabelStore) -> Iterator[tuple[str, pa.Table | None]]:
    """(path, ids and statuses) of every part, a few parts ahead of the caller."""
    with ThreadPoolExecutor(_READERS) as pool:
        for paths in _batched(store.parts(), 4 * _READERS):
            yield from zip(
                paths, pool.map(lambda path: store.read_columns(path, ["image_id", "status"]), paths), strict=True
            )


@dataclass(frozen=True)
class Pending:
    """The images an attempt has to label.

    Attributes:
        folder: of Parquet files with `MANIFEST_SCHEMA`, inside the store's file system.
        images: how many.
        listed: images of the input, finished ones included.
        files: manifest files in the folder.
    """

    folder: str
    images: int
    listed: int
    files: int

    def paths(self) -> list[str]:
        """The manifest files, in order."""
        return [_manifest_file(self.folder, index) for index in range(self.files)]


def _manifest_file(folder: str, index: int) -> str:
    return f"{folder}/{index:06d}.parquet"


def write_pending(store: LabelStore, images: Iterable[ImageRef], finished: IdSet) -> Pending:
    """Write the manifest of images that have no row yet, streaming.

    An image that is listed twice is labelled once.

    Raises:
        ConfigurationError: two images have one id.
        OutputError: the store is not writable.
    """
    folder = f"{store.root}/checkpoint/pending"
    if store.filesystem.get_file_info(folder).type != pafs.FileType.NotFound:
        store.filesystem.delete_dir(folder)
    seen = IdSet()
    pending = files = 0
    fresh = itertools.chain.from_iterable(
        _fresh(batch, seen, finished) for batch in _batched(images, _ROWS_PER_LOOK_UP)
    )
    for batch in _batched(fresh, _ROWS_PER_MANIFEST_FILE):
        table = pa.table([[image.image_id for image in batch], [image.uri for image in batch]], schema=MANIFEST_SCHEMA)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        write_whole(store.filesystem, _manifest_file(folder, files), sink.getvalue())
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
