"""Addresses of files: local paths, s3://, gs:// and any other that pyarrow or fsspec opens."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs

from everymask.errors import ConfigurationError
from everymask.redaction import redact

_REPOSITORY = re.compile(r"(?:(?:datasets|spaces|buckets)/)?(?!(?:datasets|spaces|buckets)/)[^/]+/[^/]+")
_CREDENTIALS = re.compile(r"[?&](access_key|secret_key|session_token)=|^[^/@:]*:[^/@]+@")
_CHAIN = re.compile(r"::[A-Za-z][A-Za-z0-9+.-]*://")
_IPV6 = re.compile(r"\[[^\[\]/]*\]")
_ERRNO = re.compile(r"\[errno (\d+)\]", re.IGNORECASE)
_WEB = ("http://", "https://")
_URL_CHARACTERS = "%:/?#[]@!$&'()*+,;=~"


def is_remote(uri: str) -> bool:
    """Whether `uri` lies outside this machine's file system."""
    return "://" in uri and not uri.startswith("file://")


def is_web(uri: str) -> bool:
    """Whether `uri` is http(s), where every character belongs to the address."""
    return uri.lower().startswith(_WEB)


def is_chained(uri: str) -> bool:
    """Whether `uri` is an fsspec address that leads through others, such as `zip://x::http://host/y`.

    Such an address may hold a program (`reference::data://…` fills in templates), so it is never opened.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return False
    host = _IPV6.sub("", rest.partition("/")[0])
    parameters = "" if is_web(uri) else _IPV6.sub("", _split_parameters(rest)[1])
    return "::" in scheme + host + parameters or _CHAIN.search(rest) is not None


def canonical_uri(location: str) -> str:
    """`location` in the form that run.json records: absolute, without a trailing slash."""
    if is_remote(location):
        path, query = split_query(location)
        return path.rstrip("/") + query
    return os.path.abspath(os.path.expanduser(location.removeprefix("file://")))


def resolve(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system of an address, and the absolute path inside it.

    pyarrow's file systems come first; fsspec serves every other scheme.

    Raises:
        ConfigurationError: no installed library opens the scheme; or the address is malformed, chained, or holds
            credentials, which would be written into label stores.
    """
    if not is_remote(uri):
        return pafs.LocalFileSystem(), str(Path(uri.removeprefix("file://")).expanduser().absolute())
    if is_chained(uri):
        raise ConfigurationError(f"the address {uri} is chained (`::`), which is never opened; give a plain address")
    scheme, _, rest = uri.partition("://")
    location, slash, path = rest.partition("/")
    if _CREDENTIALS.search(_split_parameters(path)[1]) or _CREDENTIALS.search(location):
        raise ConfigurationError(
            f"the {scheme}:// address holds credentials, which would be stored with the labels; give them in the "
            "environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, …) or by the machine's role"
        )
    if scheme == "hf" and not _REPOSITORY.match(rest):  # its library answers with errors of no kind that callers know
        raise ConfigurationError(f"{uri} names no repository of the hub; write hf://datasets/OWNER/NAME")
    if is_web(uri):
        return _web_filesystem(), quote(uri, safe=_URL_CHARACTERS)
    # Query parameters (endpoint, region) belong to the file system, not to the path.
    path, query = _split_parameters(path)
    filesystem, root = _remote_filesystem(f"{scheme}://{location}{slash}{query}")
    if root == "/":  # of a scheme with absolute paths: without the slash a folder of one's own would be meant
        return filesystem, f"/{path}"
    return filesystem, "/".join(part for part in (root.rstrip("/"), path) if part)


def split_query(uri: str) -> tuple[str, str]:
    """An address without its parameters, and the parameters (`?name=value…`) or "". Local paths have none."""
    return _split_parameters(uri) if is_remote(uri) else (uri, "")


def _split_parameters(text: str) -> tuple[str, str]:
    before, question_mark, query = text.rpartition("?")
    return (before, question_mark + query) if question_mark and "=" in query else (text, "")


@lru_cache(maxsize=1)
def _web_filesystem() -> pafs.FileSystem:
    from fsspec.implementations.http import HTTPFileSystem

    # Encoded: a signature is asked for as it was given.
    return pafs.PyFileSystem(pafs.FSSpecHandler(HTTPFileSystem(encoded=True)))


@lru_cache(maxsize=64)
def _remote_filesystem(root_uri: str) -> tuple[pafs.FileSystem, str]:
    try:
        filesystem, root = pafs.FileSystem.from_uri(_with_one_request(root_uri))
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


def _with_one_request(root_uri: str) -> str:
    """An address whose file system writes a small object of S3 by one request in place of three."""
    if not root_uri.startswith("s3://") or "allow_delayed_open=" in root_uri:
        return root_uri
    return f"{root_uri}{'&' if _split_parameters(root_uri)[1] else '?'}allow_delayed_open=true"


def one_line(error: BaseException) -> str:
    """An error's message on one line, without secrets in addresses."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, pa.ArrowException):
        return error.strerror
    return redact(" ".join(str(error).split())) or type(error).__name__


def error_number(error: OSError) -> int | None:
    """The errno of an error, which Arrow may give as text only: `… [errno 28] No space left on device`."""
    if error.errno is not None:
        return error.errno
    found = _ERRNO.search(str(error))
    return int(found[1]) if found else None
