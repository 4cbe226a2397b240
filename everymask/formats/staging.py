"""An export appears whole or not at all: it is written aside, and moved into place when it is finished."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import pyarrow.fs as pafs

from everymask.errors import ConfigurationError, OutputError
from everymask.files.location import Location
from everymask.files.storage import is_remote, one_line, resolve, split_query

MARKER = ".everymask-export.json"
"""In every exported folder: says that the folder is an export, which another export may replace."""
_CHUNK_BYTES = 2**22


def main_file(output: str, suffix: str) -> str:
    """Name of the file that a format of one file is written to; empty for a format that is a folder.

    Raises:
        ConfigurationError: the output does not end as the format wants.
    """
    if not suffix:
        return ""
    name = PurePosixPath(split_query(output)[0]).name
    if not name.endswith(suffix):
        raise ConfigurationError(f"--output {output} must be a {suffix} file for this format, such as labels{suffix}")
    return name


@contextmanager
def staged(output: str, beside: list[str], is_folder: bool, overwrite: bool) -> Iterator[Path]:
    """A local folder to write an export into; on leaving it well the export is at `output`, otherwise nothing is.

    Args:
        output: a folder, or the main file of an export whose other parts lie beside it.
        beside: names of these other parts, files or folders.
        is_folder: whether the output is a folder.
        overwrite: replace an earlier export.

    Raises:
        ConfigurationError: the output is there already and is not to be, or must not be, replaced.
        OutputError: it cannot be written.
    """
    filesystem, target = resolve(output)
    folder = target if is_folder else target.rpartition("/")[0]
    _check_free(filesystem, [target, *(f"{folder}/{name}" for name in beside)], is_folder, overwrite)
    local = not is_remote(output)
    parent = Path(target).parent if local else Path(tempfile.gettempdir())
    try:
        parent.mkdir(parents=True, exist_ok=True)
        stage = parent / f".everymask-export.{uuid.uuid4().hex}"
        stage.mkdir()
        try:
            yield stage
            if is_folder:
                (stage / MARKER).write_text(json.dumps({"everymask": "export"}) + "\n")
            if not local:
                _upload(stage, filesystem, folder, last=MARKER if is_folder else PurePosixPath(target).name)
            elif is_folder:
                _swap(stage, Path(target))
            else:
                for name in [*beside, Path(target).name]:  # the main file last: where it is, all is
                    if (stage / name).exists():
                        _swap(stage / name, Path(folder) / name)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {split_query(output)[0]}: {one_line(error)}; nothing was left there: make room or give "
            "write access, then export again"
        ) from error


def _check_free(filesystem: pafs.FileSystem, paths: list[str], is_folder: bool, overwrite: bool) -> None:
    for path in paths:
        info = filesystem.get_file_info(path)
        if info.type == pafs.FileType.NotFound:
            continue
        holds_something = info.type == pafs.FileType.File or bool(filesystem.get_file_info(pafs.FileSelector(path)))
        if not holds_something:
            continue
        if not overwrite:
            raise ConfigurationError(
                f"{path} is there already; choose another --output, or replace it with --overwrite"
            )
        if info.type == pafs.FileType.Directory and not _is_export(filesystem, path):
            raise ConfigurationError(
                f"{path} is not an export of everymask, so --overwrite does not replace it; choose another --output"
            )
        if is_folder and info.type == pafs.FileType.File:
            raise ConfigurationError(f"{path} is a file, and this format writes a folder; choose another --output")


def _is_export(filesystem: pafs.FileSystem, folder: str) -> bool:
    return bool(filesystem.get_file_info(f"{folder}/{MARKER}").type == pafs.FileType.File)


def _swap(new: Path, target: Path) -> None:
    """Put `new` at `target`; what was there goes when the new is in place."""
    if new.is_dir():
        (new / MARKER).write_text(json.dumps({"everymask": "export"}) + "\n")
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    if target.is_dir():
        os.rename(target, old)
    try:
        os.replace(new, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _upload(stage: Path, filesystem: pafs.FileSystem, folder: str, last: str) -> None:
    """Copy every file to a remote place, the file `last` at the end; what was copied goes if one fails."""
    files = sorted(
        (path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file()),
        key=lambda name: name == last,
    )
    written: list[str] = []
    try:
        for name in files:
            written.append(f"{folder}/{name}")
            with (stage / name).open("rb") as source, Location(filesystem, written[-1]).stream() as sink:
                while chunk := source.read(_CHUNK_BYTES):
                    sink.write(chunk)
    except BaseException:
        for path in written:
            with suppress(OSError):
                filesystem.delete_file(path)
        raise
