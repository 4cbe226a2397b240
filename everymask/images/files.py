"""Read image files, checking their size first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as pafs

import everymask
from everymask.errors import InputError
from everymask.files.addresses import AddressPolicy
from everymask.files.download_limits import DownloadConfig, DownloadError
from everymask.files.objects import read as read_object
from everymask.files.storage import is_web, one_line, resolve
from everymask.images.decoding import ImageLimits
from everymask.images.sources.registry import source_for
from everymask.images.sources.streams import OpenStreams
from everymask.records import Member

if TYPE_CHECKING:
    from everymask.files.download import HttpClient

_STREAMS = OpenStreams(most=8)
_EVERYWHERE = ("0.0.0.0/0", "::/0")
_REQUESTS_PER_SECOND = 1000.0  # a list of one's own is fetched as fast as its server answers


def read_bytes(uri: str, limits: ImageLimits, policy: AddressPolicy, member: Member | None = None) -> bytes:
    """The bytes of one image, after checking its size.

    Args:
        uri: a local path or an address.
        limits: on its size.
        policy: what may be opened for the source of `uri`.
        member: where in that file the image lies; None if it is the whole file.

    Raises:
        InputError: missing, not a file, empty, not fetchable, or an address that may not or cannot be opened.
        ImageTooLargeError: more bytes than the limit.
        OSError: it cannot be read now.
    """
    if member is not None:
        (found,) = read_members(uri, [member], limits, policy)
        if isinstance(found, InputError):
            raise found
        return found
    policy.check(uri)
    try:
        return _fetch(uri, limits, policy) if is_web(uri) else _read(uri, limits)
    except (InputError, OSError):
        raise
    except Exception as error:  # an odd address makes the libraries below raise nearly anything
        raise InputError(f"the file cannot be read ({one_line(error)}); check its address") from error


def read_members(
    uri: str, members: Sequence[Member], limits: ImageLimits, policy: AddressPolicy
) -> list[bytes | InputError]:
    """The bytes of images inside one file, in order; an error for each that has none.

    Args:
        members: where in the file; at least one, all of one kind.
        limits: on an image's size.
        policy: as in `read_bytes`.

    Raises:
        InputError: as `read_bytes`, or everymask cannot open such members.
        OSError: as `read_bytes`.
    """
    policy.check(uri)
    source = source_for(members[0].kind)
    if source is None or is_web(uri):
        raise InputError(f"a {members[0].kind} of a file is not read from there; put the file where it can be opened")
    try:
        if members[0].kind == "scan" and source.unpack is not None:
            return _read_on(uri, source.read, source.unpack, members, limits)
        with _opened(uri) as file:
            return source.read(file, members, limits)
    except (InputError, OSError):
        raise
    except Exception as error:  # as in `read_bytes`
        raise InputError(f"the file cannot be read ({one_line(error)}); check its address") from error


def _read_on(
    uri: str,
    read: Callable[[Any, Sequence[Member], ImageLimits], list[bytes | InputError]],
    unpack: Callable[[pa.NativeFile], IO[bytes]],
    members: Sequence[Member],
    limits: ImageLimits,
) -> list[bytes | InputError]:
    """As `read_members`, from where an earlier call has unpacked the file to."""
    filesystem, path = resolve(uri)
    state = filesystem.get_file_info(path)
    key = (uri, state.size, state.mtime_ns)
    stream = _STREAMS.take(key, min(member.offset or 0 for member in members)) or unpack(_opened(uri))
    found = read(stream, members, limits)
    if not any(isinstance(data, InputError) for data in found):
        _STREAMS.keep(key, stream)
    return found


def _read(uri: str, limits: ImageLimits) -> bytes:
    with suppress(FileNotFoundError):  # below it is said what there is instead
        if (found := read_object(*resolve(uri), limits.check_bytes)) is not None:
            return found
    with _opened(uri) as file:
        limits.check_bytes(file.size())
        data = bytes(file.read(limits.max_bytes + 1))
    limits.check_bytes(len(data))  # again: it may have grown, or its server may not tell the truth
    return data


def _opened(uri: str) -> pa.NativeFile:
    filesystem, path = resolve(uri)
    if isinstance(filesystem, pafs.S3FileSystem):  # opening asks for all that is asked below, in one request
        with suppress(OSError):
            return filesystem.open_input_file(path)
    kind = filesystem.get_file_info(path).type
    if kind == pafs.FileType.NotFound:
        raise InputError("the file is not there")
    if kind == pafs.FileType.Directory:
        raise InputError("this is a folder, not a file")
    if kind == pafs.FileType.Unknown:  # reading one could wait for ever
        raise InputError("this is no file but a pipe, a socket or a device")
    return pa.OSFile(path) if isinstance(filesystem, pafs.LocalFileSystem) else filesystem.open_input_file(path)


def read_labelled_bytes(
    uri: str,
    content_sha256: str | None,
    limits: ImageLimits,
    policy: AddressPolicy,
    member: Member | None = None,
) -> bytes:
    """A label store's image: exactly the bytes that were labelled, or none.

    So the store's author can have nothing read that they did not already have.

    Args:
        uri, content_sha256, member: of the image, as in the store.
        limits: on its size.
        policy: which of the store's addresses may be opened.

    Raises:
        InputError: as `read_bytes`; the store has no digest of the image, or the file has changed.
        ImageTooLargeError: as `read_bytes`.
        OSError: as `read_bytes`.
    """
    if not content_sha256:
        raise InputError("the label store has no content_sha256 of it, so nothing tells whether a file is the one")
    data = read_bytes(uri, limits, policy, member)
    if hashlib.sha256(data).hexdigest() != content_sha256:
        raise InputError("it has changed since it was labelled; label it again")
    return data


def _fetch(uri: str, limits: ImageLimits, policy: AddressPolicy) -> bytes:
    private = policy.allow_private_networks or policy.trusts(uri)
    try:
        data = _client(limits.max_bytes, private).get(uri, accept=("",), headers={"User-Agent": _AGENT})
    except DownloadError as error:
        remedy = "; --allow-private-networks lets it" if "private address" in str(error) else ""
        raise InputError(f"the file cannot be fetched ({error}{remedy})") from error
    limits.check_bytes(len(data))
    return data


_AGENT = f"everymask/{everymask.__version__}"


@lru_cache(maxsize=4)
def _client(max_bytes: int, private: bool) -> HttpClient:
    from everymask.files.download import HttpClient

    networks = _EVERYWHERE if private else ()
    return HttpClient(
        DownloadConfig(_REQUESTS_PER_SECOND, max_bytes=max_bytes, allowed_private_networks=networks, backoff_s=0.5)
    )
