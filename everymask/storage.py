"""Files wherever they are: local paths, s3://, gs:// and every other address pyarrow or fsspec can open."""

from __future__ import annotations

import errno
import logging
import os
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.fs as pafs

from everymask.errors import ConfigurationError, OutputError
from everymask.redaction import redact

logger = logging.getLogger(__name__)

WRITE_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_CREDENTIALS = re.compile(r"[?&](access_key|secret_key|session_token)=|^[^/@]+:[^/@]+@")
_NO_REMEDY_IN_WAITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR})


class SupportsBuffer(Protocol):
    """What `pyarrow` streams take: bytes, buffers, memory views."""

    def __len__(self) -> int: ...


def is_remote(uri: str) -> bool:
    """Whether `uri` names another place than this machine's file system."""
    return "://" in uri and not uri.startswith("file://")


def resolve(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system of an address, and the path inside it. Local paths are made absolute.

    pyarrow's own file systems come first; fsspec's serve every other scheme.

    Raises:
        ConfigurationError: no installed library opens this scheme, the address is malformed, or it holds credentials:
            addresses are written into label stores.
    """
    if not is_remote(uri):
        return pafs.LocalFileSystem(), str(Path(uri.removeprefix("file://")).expanduser().absolute())
    scheme, _, rest = uri.partition("://")
    location, slash, path = rest.partition("/")
    if _CREDENTIALS.search(split_query(path)[1]) or _CREDENTIALS.search(location):
        raise ConfigurationError(
            f"the {scheme}:// address holds credentials, which would be stored with the labels; give them in the "
            "environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, …) or by the machine's role"
        )
    # Query parameters (endpoint, region) belong to the file system, not to the path.
    path, query = split_query(path)
    filesystem, root = _remote_filesystem(f"{scheme}://{location}{slash}{query}")
    if root == "/":  # of a scheme with absolute paths: without the slash a folder of one's own would be meant
        return filesystem, f"/{path}"
    return filesystem, "/".join(part for part in (root.rstrip("/"), path) if part)


def split_query(uri: str) -> tuple[str, str]:
    """An address without its parameters, and `?name=value…` or an empty string."""
    before, question_mark, query = uri.rpartition("?")
    return (before, question_mark + query) if question_mark and "=" in query else (uri, "")


@lru_cache(maxsize=64)
def _remote_filesystem(root_uri: str) -> tuple[pafs.FileSystem, str]:
    try:
        filesystem, root = pafs.FileSystem.from_uri(root_uri)
        return filesystem, str(root)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as unknown:
        try:
            from fsspec.core import url_to_fs  # type: ignore[import-untyped]

            filesystem, root = url_to_fs(root_uri)
            return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), str(root)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"{root_uri} cannot be opened ({error}; {unknown})") from error
    except OSError as error:
        raise ConfigurationError(f"{root_uri} cannot be reached ({one_line(error)})") from error


def write_whole(
    filesystem: pafs.FileSystem, path: str, data: SupportsBuffer, delays_s: Sequence[float] = WRITE_DELAYS_S
) -> None:
    """Put `data` at `path` at once: a reader sees the file before or the file after, never a part of it.

    Args:
        filesystem: where `path` is; its folder is made if need be.
        path: inside `filesystem`.
        data: bytes or a buffer.
        delays_s: waits before the second, third, … try, for a storage that fails for a while.

    Raises:
        OutputError: the place is full or not writable, or every try failed.
    """
    for delay in [*delays_s, None]:
        try:
            _write_once(filesystem, path, data)
            return
        except OSError as error:
            if delay is None or _errno(error) in _NO_REMEDY_IN_WAITING:
                raise OutputError(
                    f"cannot write {path}: {one_line(error)}; everything finished so far is kept: make room or give "
                    "write access there, then run the same command again"
                ) from error
            logger.warning("cannot write %s, trying again in %s s: %s", path, delay, one_line(error))
            time.sleep(delay)


def _write_once(filesystem: pafs.FileSystem, path: str, data: SupportsBuffer) -> None:
    with _draft(filesystem, path) as stream:
        stream.write(data)


@contextmanager
def open_whole(filesystem: pafs.FileSystem, path: str) -> Iterator[pa.NativeFile]:
    """A stream for a file too big to hold: it appears at `path` when the block ends well, and not at all otherwise.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        with _draft(filesystem, path) as stream:
            yield stream
    except OSError as error:
        raise OutputError(f"cannot write {path}: {one_line(error)}; make room or give write access there") from error


@contextmanager
def _draft(filesystem: pafs.FileSystem, path: str) -> Iterator[pa.NativeFile]:
    folder, _, name = path.rpartition("/")
    # Readers pass over names that begin with a dot; a kill leaves at most such a file behind.
    draft = f"{folder}/.{name}.{uuid.uuid4().hex}"
    filesystem.create_dir(folder, recursive=True)
    try:
        with filesystem.open_output_stream(draft) as stream:
            yield stream
        filesystem.move(draft, path)
    except BaseException:
        with suppress(OSError):
            filesystem.delete_file(draft)
        raise


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks, stack traces and the secrets of addresses."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, pa.ArrowException):
        return error.strerror
    return redact(" ".join(str(error).split())) or type(error).__name__


def _errno(error: OSError) -> int | None:
    if error.errno is not None:
        return error.errno
    # Arrow reports some failures of the operating system as text only: "… [errno 28] No space left on device".
    return next((code for code in _NO_REMEDY_IN_WAITING if os.strerror(code) in str(error)), None)
