"""Atomic exports: written to a stage and moved into place when finished."""

from __future__ import annotations

import fcntl
import filecmp
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pyarrow.fs as pafs

from everymask.errors import ConfigurationError, OutputError
from everymask.files.storage import is_remote, one_line, resolve, split_query
from everymask.formats.format import SCRATCH
from everymask.formats.publishing import MARKER, files_below, is_stage, marker_text, publish

_OLD = ".old."
"""Prefix of the folder in a stage where old parts wait; the main file's name follows."""
_FIRST = ".first"
"""File in that folder that names the parts without an old one."""


def main_file(output: str, suffix: str) -> str:
    """Name of a one-file format's file; "" for a folder format.

    Raises:
        ConfigurationError: the output's ending is not the format's.
    """
    if not suffix:
        return ""
    name = PurePosixPath(split_query(output)[0]).name
    if not name.endswith(suffix):
        raise ConfigurationError(f"--output {output} must be a {suffix} file for this format, such as labels{suffix}")
    return name


@contextmanager
def staged(output: str, beside: list[str], is_folder: bool, overwrite: bool, key: str | None = None) -> Iterator[Path]:
    """A local folder to write an export into. On success it is moved to `output`; on error nothing is left.

    Remains of killed exports are tidied: an old export that one had put aside is put back. The folder holds what an
    earlier attempt with the same key wrote.

    Args:
        output: a folder, or the main file of an export whose other parts lie beside it.
        beside: names of those other files and folders.
        is_folder: whether the output is a folder.
        overwrite: replace an earlier export.
        key: 32 hexadecimal digits that identify everything the export depends on; None to start afresh.

    Raises:
        ConfigurationError: the output exists and may not be replaced.
        OutputError: it cannot be written.
    """
    filesystem, target = resolve(output)
    folder = target if is_folder else target.rpartition("/")[0]
    parts = [target, *(f"{folder}/{name}" for name in beside)]
    local = not is_remote(output)
    try:
        if local:
            _tidy(Path(target), key)
        _check_free(filesystem, parts, is_folder, overwrite)
        parent = Path(target).parent if local else Path(tempfile.gettempdir())
        with _stage(parent, key) as stage:
            yield stage
            shutil.rmtree(stage / SCRATCH, ignore_errors=True)
            for written in [stage] if is_folder else [stage / name for name in beside if (stage / name).is_dir()]:
                _mark(written)
            if not local:
                folders = [name for name in beside if (stage / name).is_dir()]
                publish(stage, filesystem, folder, "" if is_folder else PurePosixPath(target).name, folders)
            elif is_folder:
                _swap(stage, Path(target))
            else:
                _swap_parts(
                    stage, Path(folder), Path(target).name, [name for name in beside if (stage / name).exists()]
                )
    except OSError as error:
        raise OutputError(
            f"cannot write {split_query(output)[0]}: {one_line(error)}; nothing was left there: make room or give "
            "write access, then export again"
        ) from error


@contextmanager
def _stage(parent: Path, key: str | None) -> Iterator[Path]:
    """A folder that is removed when the block ends, unless the process is being ended: then the next attempt resumes.

    It is locked, so that others see whether its process lives.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for name in [*([key] if key else []), uuid.uuid4().hex]:
        stage = parent / f".everymask-export.{name}"
        stage.mkdir(exist_ok=True)
        handle = os.open(stage, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:  # the same export is being made at this moment, too
            os.close(handle)
    try:
        yield stage
        shutil.rmtree(stage, ignore_errors=True)
    except Exception:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    finally:
        os.close(handle)


def _tidy(target: Path, key: str | None) -> None:
    """Remove what killed exports left beside an export, and put back what they had put aside.

    Finished shares of the export with `key` stay.
    """
    parent = target.parent
    if not parent.is_dir():
        return
    for left in list(parent.iterdir()):
        if is_stage(left.name) and left.is_dir() and not _is_in_use(left):
            _put_back(left)
            if key is not None and left.name.endswith(key) and (left / SCRATCH).is_dir():
                continue
            shutil.rmtree(left, ignore_errors=True)
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{32}}")
    for aside in list(parent.iterdir()):
        if name.fullmatch(aside.name) and (aside / MARKER).is_file():
            if target.exists():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                os.rename(aside, target)


def _is_in_use(stage: Path) -> bool:
    handle = os.open(stage, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(handle)


def _check_free(filesystem: pafs.FileSystem, paths: list[str], is_folder: bool, overwrite: bool) -> None:
    for path in paths:
        info = filesystem.get_file_info(path)
        if info.type == pafs.FileType.NotFound:
            continue
        if info.type == pafs.FileType.Directory:
            inside = filesystem.get_file_info(pafs.FileSelector(path))
            if all(is_stage(entry.base_name) for entry in inside):
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


def _mark(folder: Path) -> None:
    (folder / MARKER).write_text(marker_text(files_below(folder)), encoding="utf-8", errors="surrogateescape")


def _swap(new: Path, target: Path) -> None:
    """Put `new` at `target`, then delete what was there."""
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


def _swap_parts(stage: Path, folder: Path, main: str, beside: list[str]) -> None:
    """Replace a file and the parts beside it.

    The old main file goes first and the new one comes last, so nobody reads old labels with new images. The old parts
    wait in the stage and are put back on failure.
    """
    changed = [name for name in beside if not _is_same_file(stage / name, folder / name)]
    if changed:
        old = stage / f"{_OLD}{main}"
        old.mkdir()
        first = [name for name in changed if not (folder / name).exists()]
        (old / _FIRST).write_text(json.dumps(first), encoding="utf-8")
        try:
            for name in (main, *changed):
                if (folder / name).exists():
                    os.rename(folder / name, old / name)
            for name in (*changed, main):
                os.rename(stage / name, folder / name)
        except OSError:
            _put_back(stage)
            raise
    else:
        os.replace(stage / main, folder / main)


def _put_back(stage: Path) -> None:
    """Undo an interrupted swap of parts; one that had not begun, or was finished, stays."""
    for old in stage.glob(f"{_OLD}*"):
        main, folder = old.name.removeprefix(_OLD), stage.parent
        if (folder / main).exists():
            continue
        try:
            first = json.loads((old / _FIRST).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # killed before it was written: nothing was moved yet
            continue
        for name in (Path(name).name for name in first):
            if not (stage / name).exists():
                _remove_ours(folder / name)
        waiting = [path.name for path in old.iterdir() if path.name != _FIRST]
        for name in sorted(waiting, key=lambda name: name == main):
            _remove_ours(folder / name)
            os.rename(old / name, folder / name)


def _remove_ours(part: Path) -> None:
    if (part / MARKER).is_file():
        shutil.rmtree(part)
    elif part.is_file():
        part.unlink()


def _is_same_file(new: Path, there: Path) -> bool:
    return new.is_file() and there.is_file() and filecmp.cmp(new, there, shallow=False)
