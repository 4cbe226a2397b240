"""What to label: a folder, a glob, a list, a manifest, tar shards or tables, here or on any remote file system.

Images are listed as a stream, so that a million of them cost the driver no memory.
"""

from __future__ import annotations

import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
from fsspec.utils import glob_translate

from data_jobs.labelling.manifest_files import LIST_SUFFIXES, is_manifest, read_rows
from data_jobs.labelling.skipped import Skipped
from data_jobs.labelling.walking import ListedFile, look_at, walk_local, walk_remote
from everymask.errors import ConfigurationError
from everymask.files.addresses import AddressError, AddressPolicy
from everymask.files.location import Location
from everymask.files.storage import canonical_uri, is_remote, is_web, one_line, resolve, split_query
from everymask.files.text_lines import bounded_lines
from everymask.images.decoding import IMAGE_SUFFIXES
from everymask.images.sources.options import DEFAULT_OPTIONS, SourceOptions
from everymask.images.sources.registry import SUFFIXES, source_of
from everymask.images.sources.source import Found
from everymask.records import Member
from everymask.redaction import redact

_WILDCARD = re.compile(r"[*?\[]")
_NO_ENDING = "without an ending"
_CACHES, _CACHE = "cache-*.arrow", "caches of data sets"
_COMMENT = " #"
_MOST_MARKS_IN_A_NAME = 16
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_COUNTED = 1_000_000
_LISTED_AT_ONCE = 8

T = TypeVar("T")


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


def list_images(
    location: str,
    skip: str | None = None,
    skipped: Skipped | None = None,
    options: SourceOptions = DEFAULT_OPTIONS,
) -> Iterator[ImageRef]:
    """Every image of an input, in a fixed order.

    A folder is walked with its subfolders, and then the folders that links lead to, each folder once; files with an
    image's ending count, names that begin with a dot do not. A glob takes whatever it matches (`**` spans folders), its
    root is the part before the first wildcard. A `.txt` or `.lst` list has one path or address a line; ` #` begins a
    comment, unless there is a file of that name. A manifest (Parquet, CSV, JSON lines) has a column `uri` and may have
    `image_id`; that of an S3 Inventory is its `manifest.json`. Relative paths in lists and manifests begin at the
    list's folder.

    Images also lie inside files (`everymask.images.sources`): inside one that is named, inside those that a glob or
    `train-{000..127}.tar` matches, and inside those of a folder that holds no image of its own. What is wrong with such
    a file is one row.

    Args:
        location: what to list.
        skip: a folder whose files are no images of the input: the output, where it lies inside the input.
        skipped: counts what a folder or a glob holds that is not taken.
        options: what is taken of files that hold images.

    Raises:
        ConfigurationError: the input is not there, cannot be opened, or is malformed.
    """
    if _BRACES.search(location):
        yield from _inside(_counted(location), options)
        return
    base, query = split_query(location) if is_remote(location) else (location, "")
    avoid = canonical_uri(skip) if skip is not None else None
    skipped = Skipped() if skipped is None else skipped
    filesystem, path = resolve(location)
    try:
        kind = filesystem.get_file_info(path).type
    except OSError as error:
        raise ConfigurationError(f"the input {location} cannot be opened ({one_line(error)})") from error
    if kind == pafs.FileType.Directory:
        yield from _walk_folder(base, query, avoid, skipped, options)
    elif kind == pafs.FileType.File and is_manifest(base, filesystem, path, options):
        yield from _read_manifest(location, options)
    elif kind == pafs.FileType.File and source_of(base, options) is not None:
        yield from _inside([replace(_relative_ref(location, location), image_id=PurePosixPath(base).name)], options)
    elif kind == pafs.FileType.File and base.lower().endswith(LIST_SUFFIXES):
        yield from _read_list(location)
    elif kind == pafs.FileType.File:
        yield replace(_relative_ref(canonical_uri(location), location), image_id=PurePosixPath(base).name)
    elif wildcard := _WILDCARD.search(base):
        folder, slash, _ = base[: wildcard.start()].rpartition("/")
        matches = re.compile(glob_translate(base[len(folder + slash) :])).match
        found = (ref for ref in _walk(folder or slash or ".", query, avoid, skipped) if matches(ref.image_id))
        for ref in found:
            yield from [ref] if source_of(ref.image_id, options) is None else _images_of(ref, options)
    else:
        raise ConfigurationError(
            f"the input {location} is not there; give a folder, a glob in quotes, a .txt list, a .parquet manifest or "
            "tar shards"
        )


def _walk_folder(
    root: str, query: str, avoid: str | None, skipped: Skipped, options: SourceOptions
) -> Iterator[ImageRef]:
    """The images of a folder; where it has none, or the user asks for it, those inside its shards and videos."""
    shards = []
    any_image = False
    for ref in _walk(root, query, avoid, skipped):
        ending = PurePosixPath(ref.image_id).suffix.lower()
        if ending in IMAGE_SUFFIXES:
            any_image = True
            yield from [ref] if source_of(ref.image_id, options) is None else _images_of(ref, options)
        elif PurePosixPath(ref.image_id).match(_CACHES):
            skipped.add(_CACHE)
        elif (source := source_of(ref.image_id)) is not None:
            shards.append((ref, source))
        else:
            skipped.add(ending or _NO_ENDING)
    taken = []
    for ref, source in shards:
        if not any_image or source.asked_for(options):
            taken.append(ref)
        else:
            skipped.add(f"{PurePosixPath(ref.image_id).suffix.lower()} ({source.taken_by} takes them)")
    yield from _inside(taken, options)


def _walk(root: str, query: str, avoid: str | None, skipped: Skipped | None = None) -> Iterator[ImageRef]:
    root = canonical_uri(root)
    skipped = Skipped() if skipped is None else skipped
    for file in walk_remote(root, query, avoid, skipped) if is_remote(root) else walk_local(root, avoid, skipped):
        image_id = file.uri[len(root.rstrip("/")) + 1 :]
        yield ImageRef(image_id, file.uri + query, file.size, file.version)


def _counted(location: str) -> list[ImageRef]:
    """`train-{000..127}.tar` as one reference for each number; ids begin at the folder before the braces."""
    found = _BRACES.search(location)
    assert found is not None
    first, last = found[1], found[2]
    if not 0 <= int(last) - int(first) < _MOST_COUNTED:
        raise ConfigurationError(f"the input {location} counts from {first} to {last}; give the smaller number first")
    names = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    places = [f"{location[: found.start()]}{name}{location[found.end() :]}" for name in names]
    folder = location[: found.start()].rpartition("/")[0]
    return [
        replace(_relative_ref(place, place), image_id=split_query(place)[0][len(folder) :].lstrip("/"))
        for place in places
    ]


def _inside(shards: Iterable[ImageRef], options: SourceOptions) -> Iterator[ImageRef]:
    """The images inside files, in order. A few files are listed at a time."""
    with ThreadPoolExecutor(_LISTED_AT_ONCE) as pool:
        for some in batched(shards, _LISTED_AT_ONCE):
            yield from itertools.chain.from_iterable(pool.map(partial(_images_of, options=options), some))


def _images_of(shard: ImageRef, options: SourceOptions) -> list[ImageRef]:
    source = source_of(shard.image_id, options)
    if source is None:
        return [replace(shard, error=f"no file of images that everymask reads; give {', '.join(SUFFIXES)}")]
    try:
        filesystem, path = resolve(shard.uri)
        local = isinstance(filesystem, pafs.LocalFileSystem)
        with pa.OSFile(path) if local else filesystem.open_input_file(path) as file:
            return [_ref_inside(shard, found) for found in source.images(file, shard.image_id, options)]
    except FileNotFoundError:
        return [replace(shard, error="the file is not there")]
    except (OSError, pa.ArrowException) as error:
        return [replace(shard, error=f"the file cannot be read ({one_line(error)})")]


def _ref_inside(shard: ImageRef, found: Found) -> ImageRef:
    image_id = f"{shard.image_id}/{found.key}" if found.key else shard.image_id
    if found.address is not None:
        return replace(_relative_ref(found.address, shard.uri), image_id=image_id)
    if found.member is None and found.error is None:
        return shard
    return ImageRef(image_id, shard.uri, found.size, shard.file_version, found.member, found.error)


def _read_list(location: str) -> Iterator[ImageRef]:
    filesystem, path = resolve(location)
    with filesystem.open_input_stream(path) as stream:
        # With or without a byte-order mark.
        text = io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8-sig", errors="backslashreplace")
        try:
            for line in bounded_lines(text):
                if entry := _without_comment(line.strip(), location):
                    yield _relative_ref(entry, location)
        except ValueError as error:
            raise ConfigurationError(
                f"the list {location} cannot be read ({one_line(error)}); make it again"
            ) from error


def _without_comment(line: str, location: str) -> str:
    """The entry of a line: the longest that is the name of a file, else what stands before the comment."""
    plain = "" if line.startswith("#") else line.split(_COMMENT)[0].strip()
    longer = line
    for _ in range(_MOST_MARKS_IN_A_NAME):
        if len(longer) <= len(plain):
            break
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


def _read_manifest(location: str, options: SourceOptions) -> Iterator[ImageRef]:
    for row in read_rows(location, options):
        ref = _relative_ref(row.uri, location)
        version = f"etag:{row.etag}" if row.etag else ref.file_version
        yield replace(
            ref,
            image_id=row.image_id or ref.image_id,
            file_size=ref.file_size if row.size is None else row.size,
            file_version=version,
        )


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
    listed = ListedFile(uri) if is_remote(uri) else look_at(uri)
    return ImageRef(image_id, uri, listed.size, listed.version)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last of fewer."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
