"""Addresses of files: local paths, s3://, gs:// and every other that pyarrow or fsspec can open."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from everymask.errors import ConfigurationError
from everymask.redaction import redact

_CREDENTIALS = re.compile(r"[?&](access_key|secret_key|session_token)=|^[^/@]+:[^/@]+@")


def is_remote(uri: str) -> bool:
    """Whether `uri` names another place than this machine's file system."""
    return "://" in uri and not uri.startswith("file://")


def canonical_uri(location: str) -> str:
    """`location` in the one form that run.json records: absolute paths, no slash at the end."""
    if is_remote(location):
        path, query = split_query(location)
        return path.rstrip("/") + query
    return os.path.abspath(os.path.expanduser(location.removeprefix("file://")))


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
            from fsspec.core import url_to_fs

            filesystem, root = url_to_fs(root_uri)
            return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), str(root)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"{root_uri} cannot be opened ({error}; {unknown})") from error
    except OSError as error:
        raise ConfigurationError(f"{root_uri} cannot be reached ({one_line(error)})") from error


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks, stack traces and the secrets of addresses."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, pa.ArrowException):
        return error.strerror
    return redact(" ".join(str(error).split())) or type(error).__name__
