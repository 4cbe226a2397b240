"""What to label: a folder, a glob, a text list or a Parquet manifest, here or on any remote file system.

Images are listed as a stream, so that a million of them cost the driver no memory.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from fsspec.utils import glob_translate

from everymask.errors import ConfigurationError
from everymask.files.addresses import AddressError, AddressPolicy
from everymask.files.location import Location
from everymask.files.storage import canonical_uri, is_remote, is_web, one_line, resolve, split_query
from everymask.images.decoding import IMAGE_SUFFIXES
from everymask.records import Member
from everymask.redaction import redact

_WILDCARD = re.compile(r"[*?\[]")
_LIST_SUFFIXES = (".txt", ".lst")
_NO_FILE, _NO_ENDING = "pipes, sockets or devices", "without an ending"
_AGAIN = "folders that a link leads to a second time"
_COMMENT = " #"
_MAX_KINDS = 8


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image to label.

    Attributes:
        image_id: its uri relative to the input root, unique in the run.
        uri: an absolute local path or a remote address.
        file_size: bytes, where the listing says.
        file_version: the file's state, where the listing says: `mtime:<ns>` or `etag:<etag>`.
        member: where in the file the image lies; None where it is the file.
        error: why there is no image after all; a row says so.
    """

    image_id: str
    uri: str
    file_size: int | None = field(default=None, compare=False)
    file_version: str | None = field(default=None, compare=False)
    member: Member | None = None
    error: str | None = None


class Skipped:
    """What a listing passed over, by ending."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, kind: str) -> None:
        """Count one."""
        self._counts[kind] += 1

    def __str__(self) -> str:
        """`skipped: 3 .heic, 2 .pdf`; empty where nothing was."""
        found = [f"{count:,} {kind}" for kind, count in self._counts.most_common(_MAX_KINDS)]
        more = self._counts.total() - sum(count for _, count in self._counts.most_common(_MAX_KINDS))
        return f"skipped: {', '.join([*found, *([f'{more:,} others'] if more else [])])}" if found else ""


def list_images(location: str, skip: str | None = None, skipped: Skipped | None = None) -> Iterator[ImageRef]:
    """Every image of an input, in a fixed order.

    A folder is walked with its subfolders, and then the folders that links lead to, each folder once; files with an
    image's ending count, names that begin with a dot do not. A glob takes whatever it matches (`**` spans folders), its
    root is the part before the first wildcard. A `.txt` or `.lst` list has one path or address a line; ` #` begins a
    comment, unless there is a file of that name. A `.parquet` manifest has a column `uri` and may have `image_id`.
    Relative paths in lists and manifests begin at the folder of the list.

    Args:
        location: what to list.
        skip: a folder whose files are no images of the input: the output, where it lies inside the input.
        skipped: counts what a folder or a glob holds that is not taken.

    Raises:
        ConfigurationError: the input is not there, cannot be opened, or is malformed.
    """
    base, query = split_query(location) if is_remote(location) else (location, "")
    avoid = canonical_uri(skip) if skip is not None else None
    skipped = Skipped() if skipped is None else skipped
    filesystem, path = resolve(location)
    try:
        kind = filesystem.get_file_info(path).type
    except OSError as error:
        raise ConfigurationError(f"the input {location} cannot be opened ({one_line(error)})") from error
    if kind == pafs.FileType.Directory:
        yield from _walk(base, query, avoid, skipped, only_images=True)
    elif kind == pafs.FileType.File and base.lower().endswith(".parquet"):
        yield from _read_manifest(location)
    elif kind == pafs.FileType.File and base.lower().endswith(_LIST_SUFFIXES):
        yield from _read_list(location)
    elif kind == pafs.FileType.File:
        yield replace(_relative_ref(canonical_uri(location), location), image_id=PurePosixPath(base).name)
    elif wildcard := _WILDCARD.search(base):
        folder, slash, _ = base[: wildcard.start()].rpartition("/")
        matches = re.compile(glob_translate(base[len(folder + slash) :])).match
        for ref in _walk(folder or slash or ".", query, avoid, skipped, only_images=False):
            if matches(ref.image_id):
                yield ref
    else:
        raise ConfigurationError(
            f"the input {location} is not there; give a folder, a glob in quotes, a .txt list or a .parquet manifest"
        )


def _walk(root: str, query: str, avoid: str | None, skipped: Skipped, only_images: bool) -> Iterator[ImageRef]:
    root = canonical_uri(root)
    files = _walk_remote(root, query, avoid) if is_remote(root) else _walk_local(root, avoid, skipped)
    for file in files:
        image_id = file.uri[len(root.rstrip("/")) + 1 :]
        ending = PurePosixPath(image_id).suffix.lower()
        if not only_images or ending in IMAGE_SUFFIXES:
            yield ImageRef(image_id, file.uri + query, file.size, file.version)
        else:
            skipped.add(ending or _NO_ENDING)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A file, and what its listing says of it."""

    uri: str
    size: int | None = None
    version: str | None = None

    @classmethod
    def of(cls, uri: str, size: int | None, mtime_ns: int | None) -> _Listed:
        return cls(uri, size, None if mtime_ns is None else f"mtime:{mtime_ns}")


def _walk_local(root: str, avoid: str | None, skipped: Skipped) -> Iterator[_Listed]:
    unreadable: list[str] = []
    seen: set[tuple[int, int]] = set()
    output = _identity(avoid) if avoid is not None and os.path.isdir(avoid) else None
    # Links come last: a folder keeps the path that it has without them.
    waiting, links = [root], deque[str]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.popleft()
        try:
            identity = _identity(folder)
            if identity == output:
                continue
            if identity in seen:
                skipped.add(_AGAIN)
                continue
            seen.add(identity)
            with os.scandir(folder) as listing:
                entries = sorted((entry for entry in listing if not entry.name.startswith(".")), key=_name)
        except OSError as error:
            unreadable.append(error.filename)
            continue
        waiting += [entry.path for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]
        for entry in entries:
            if os.path.isdir(entry.path):
                if entry.is_symlink():
                    links.append(entry.path)
            # A link that leads nowhere counts: its row says that the file is not there.
            elif os.path.isfile(entry.path) or (entry.is_symlink() and not os.path.exists(entry.path)):
                yield _look_at(entry.path)
            else:
                skipped.add(_NO_FILE)
    if unreadable:
        raise ConfigurationError(
            f"{len(unreadable)} folders of the input cannot be read, {unreadable[0]} among them; give read access or "
            "name the images in a list"
        )


def _identity(folder: str) -> tuple[int, int]:
    """What is the same however a folder is reached: device and inode."""
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _look_at(path: str) -> _Listed:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # its row will say why
        return _Listed(_printable(path))
    return _Listed.of(_printable(path), found.st_size, found.st_mtime_ns)


def _printable(path: str) -> str:
    """A path Arrow can hold: a name that is not UTF-8 becomes one that is not found later, so an error row."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _walk_remote(root: str, query: str, avoid: str | None) -> Iterator[_Listed]:
    filesystem, top = resolve(root + query)
    waiting = [top]
    while waiting:
        try:
            entries = filesystem.get_file_info(pafs.FileSelector(waiting.pop(), allow_not_found=True))
        except OSError as error:
            raise ConfigurationError(f"the input {root} cannot be listed ({one_line(error)})") from error
        folders = []
        for entry in sorted(entries, key=lambda info: str(info.path)):
            uri = root + entry.path[len(top) :]
            if entry.base_name.startswith(".") or uri == avoid:
                continue
            if entry.type == pafs.FileType.Directory:
                folders.append(entry.path)
            elif entry.type == pafs.FileType.File:
                yield _Listed.of(uri, entry.size, entry.mtime_ns)
        waiting += reversed(folders)


def _read_list(location: str) -> Iterator[ImageRef]:
    filesystem, path = resolve(location)
    with filesystem.open_input_stream(path) as stream:
        # With or without a byte-order mark.
        for line in io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8-sig", errors="backslashreplace"):
            if entry := _without_comment(line.strip(), location):
                yield _relative_ref(entry, location)


def _without_comment(line: str, location: str) -> str:
    """The entry of a line: the longest that is the name of a file, else what stands before the comment."""
    plain = "" if line.startswith("#") else line.split(_COMMENT)[0].strip()
    longer = line
    while len(longer) > len(plain):
        if _is_file(_relative_ref(longer, location).uri, location):
            return longer
        longer = longer.rpartition(_COMMENT)[0].strip()
    return plain


def _is_file(uri: str, location: str) -> bool:
    if not is_remote(uri):
        return os.path.isfile(uri)
    if is_web(uri):  # its # begins a fragment, which is no part of a name
        return False
    try:
        AddressPolicy.for_input(location).check(uri)
        return Location.at(uri).kind() == "file"
    except (AddressError, ConfigurationError, OSError, ValueError):
        return False


def _read_manifest(location: str) -> Iterator[ImageRef]:
    filesystem, path = resolve(location)
    try:
        manifest = pq.ParquetFile(filesystem.open_input_file(path))
    except pa.ArrowInvalid as error:
        raise ConfigurationError(f"the manifest {location} is not a Parquet file ({one_line(error)})") from error
    with manifest:
        columns = [name for name in ("uri", "image_id") if name in manifest.schema_arrow.names]
        if "uri" not in columns:
            raise ConfigurationError(
                f"the manifest {location} has no column `uri`, only {', '.join(manifest.schema_arrow.names)}"
            )
        for batch in manifest.iter_batches(batch_size=8192, columns=columns):
            for row in batch.to_pylist():
                if not row["uri"]:
                    raise ConfigurationError(f"the manifest {location} has a row without a uri")
                ref = _relative_ref(str(row["uri"]), location)
                yield replace(ref, image_id=str(row.get("image_id") or ref.image_id))


def _relative_ref(entry: str, location: str) -> ImageRef:
    """An entry of a list: its id is the path below the list's folder, or the entry itself where it lies elsewhere.

    Ids thus stay the same when lines are added.
    """
    base, query = split_query(location) if is_remote(location) else (location, "")
    folder = canonical_uri(base.rpartition("/")[0] or ("/" if base.startswith("/") else "."))
    if is_remote(entry):
        uri = entry
    elif os.path.isabs(entry) or entry.startswith("file://"):
        uri = canonical_uri(entry)
    elif is_remote(folder):
        query = "" if is_web(folder) else query  # the signature of a list opens nothing else
        uri = f"{folder}/{entry}{query}"
    else:
        uri = os.path.abspath(os.path.join(folder, entry))
    inside = uri.removesuffix(query) if query else uri
    # Without the signature: an address that is signed anew keeps its id.
    image_id = redact(inside[len(folder) + 1 :] if inside.startswith(f"{folder}/") else inside)
    listed = _Listed(uri) if is_remote(uri) else _look_at(uri)
    return ImageRef(image_id, uri, listed.size, listed.version)
