"""The output folder of a run: made, locked by one driver at a time, cleared."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from types import TracebackType

from everymask.errors import ConfigurationError, OutputError
from everymask.files.location import Location
from everymask.files.storage import one_line
from everymask.labels.corrections import has_corrections
from everymask.labels.provenance import read_run
from everymask.labels.shards import shards_of
from everymask.labels.store import LabelStore
from everymask.labels.updating import drop_update
from everymask.labels.visible import stores_at
from everymask.redaction import redact


def prepare(store: LabelStore, overwrite: bool) -> None:
    """Make the output's folders, in a place that is free or already holds a run.

    Args:
        store: the output.
        overwrite: its contents will be cleared.

    Raises:
        OutputError: the output is not writable.
        ConfigurationError: something else is there, or corrections, or labels of an older format; they are named and
            left alone.
    """
    if overwrite and has_corrections(store):
        raise ConfigurationError(
            f"{redact(store.uri)} holds corrections that people made; label anew with --update, which keeps them, "
            f"choose another --output, or delete {store.corrections} first"
        )
    if stores_at(store.root) != [store.root]:
        raise ConfigurationError(
            f"{redact(store.uri)} holds the stores of several runs; give --shard as they did, or choose another "
            "--output"
        )
    try:
        if read_run(store) is None:
            _check_free(store, overwrite)
        if not overwrite:
            store.check_current()
        store.labels.make_folder()
        store.checkpoint.make_folder()
    except OSError as error:
        raise OutputError(
            f"cannot write {redact(store.uri)}: {one_line(error)}; give write access there, or choose another --output"
        ) from error


def _check_free(store: LabelStore, overwrite: bool) -> None:
    """Refuse a place with files of no run, which a run would mix with or `--overwrite` would delete."""
    for entry in store.root.entries():
        reserved = entry.name in {place.name for place in (store.labels, store.shards, store.preview, store.run_file)}
        if overwrite or reserved:
            foreign = next((file for file in _files(entry) if not _is_left_over(store, file)), None)
            if foreign is not None:
                name = foreign.path.removeprefix(store.root.path).strip("/")
                raise ConfigurationError(
                    f"{redact(store.uri)} holds {name}, and no run.json that says that a run made it; nothing was "
                    "touched: choose another --output"
                )


def _files(place: Location) -> Iterator[Location]:
    entries = place.entries()
    if not entries and place.kind() != "folder":
        yield place
    for entry in entries:
        yield from _files(entry)


def _is_left_over(store: LabelStore, file: Location) -> bool:
    """Whether a run that ended before its first label left this."""
    return store.is_draft(file) or file.path.startswith(f"{store.checkpoint.path}/")


def clear(store: LabelStore) -> None:
    """Delete what runs have written here, with an update that was begun, and nothing else.

    The list of images to label stays: each run makes its own. run.json goes last: until then the labels have an origin.

    Raises:
        OutputError: something cannot be deleted.
    """
    try:
        drop_update(store)
        for file in [*store.labels.entries(), *store.preview.entries()]:
            if store.is_ours(file):
                file.delete()
        for shard in shards_of(store.root):
            for file in shard.files():
                file.delete()
            if not shard.folder.entries():
                shard.folder.delete()
        for place in (store.labels, store.shards, store.preview):
            if place.kind() == "folder":
                place.sync()
        for place in (store.listing_file, store.estimate_file, store.run_file):
            place.delete()
    except OSError as error:
        raise OutputError(f"cannot clear {redact(store.uri)}: {one_line(error)}; give write access there") from error


class OutputLock:
    """Keeps a second driver out of a local output; the kernel frees the lock however the first one ends.

    Does nothing on object stores, which have no such lock.

    Raises:
        OutputError: (on entry) another run is writing there.
    """

    def __init__(self, store: LabelStore) -> None:
        self._path = store.checkpoint.child("lock").path if store.root.is_local else None
        self._descriptor: int | None = None

    def __enter__(self) -> None:
        if self._path is None:
            return
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"another run is writing {os.path.dirname(os.path.dirname(self._path))} now; wait for it, or choose "
                "another --output"
            ) from None
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {one_line(error)}; give write access there") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
