"""The output of a run as a place: made, held by one driver at a time, cleared."""

from __future__ import annotations

import fcntl
import os
from types import TracebackType

import pyarrow.fs as pafs

from everymask.errors import ConfigurationError, OutputError
from everymask.labels.store import LabelStore
from everymask.storage import is_remote, one_line


def prepare(store: LabelStore) -> None:
    """Make the output's folders.

    Raises:
        OutputError: the output is not writable.
        ConfigurationError: it holds labels of unknown origin.
    """
    try:
        store.filesystem.create_dir(store.labels_path, recursive=True)
        store.filesystem.create_dir(f"{store.root}/checkpoint", recursive=True)
        parts = store.parts()
    except OSError as error:
        raise OutputError(
            f"cannot write {store.uri}: {one_line(error)}; give write access there, or choose another --output"
        ) from error
    if parts and not store.exists():
        raise ConfigurationError(
            f"{store.uri} holds labels but no run.json that says how they were made; choose another --output"
        )


def clear(store: LabelStore) -> None:
    """Delete what a run writes, and nothing else. run.json goes last, so that no label is ever of unknown origin."""
    for folder in (store.labels_path, f"{store.root}/preview"):
        if store.filesystem.get_file_info(folder).type == pafs.FileType.Directory:
            store.filesystem.delete_dir_contents(folder)
    if store.exists():
        store.filesystem.delete_file(f"{store.root}/run.json")


class OutputLock:
    """Keeps a second driver out of a local output; the kernel lets go when the first one ends, however it ends.

    Object stores have no such lock: there it does nothing.

    Raises:
        ConfigurationError: (on entry) another run is writing there.
    """

    def __init__(self, store: LabelStore) -> None:
        self._path = None if is_remote(store.uri) else f"{store.root}/checkpoint/lock"
        self._descriptor: int | None = None

    def __enter__(self) -> None:
        if self._path is None:
            return
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
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
