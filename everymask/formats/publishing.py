"""An export becomes the one at its place in an object store, where nothing can be renamed.

    FOLDER/.everymask-export.HEX/…   every file of the new export, first
    FOLDER/.everymask-export.json    then this one object is replaced: it names the files, and where they are whole
    FOLDER/…                         then they are copied to the names that readers expect, and old ones are deleted

Until the one object is replaced the old export is whole; from then on the new one is, in the folder that the object
names, and in the end under the names of its files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pyarrow.fs as pafs

from everymask.errors import OutputError
from everymask.files.json_text import parse_json
from everymask.files.location import Location
from everymask.files.storage import one_line

MARKER = ".everymask-export.json"
"""In every exported folder: says that the folder is an export, which another export may replace."""

_STAGE = re.compile(r"\.everymask-export\.(.*\.)?[0-9a-f]{32}")
_CHUNK_BYTES = 2**22


def marker_text(files: list[str], folder: str = "", stale: Iterable[str] = ()) -> str:
    """The marker's content.

    Args:
        files: of the export, relative to its folder.
        folder: the subfolder where they are complete; "" for the folder itself.
        stale: files of an earlier export still to be deleted.
    """
    return json.dumps({"everymask": "export", "folder": folder, "files": files, "stale": sorted(stale)}) + "\n"


def files_below(folder: Path) -> list[str]:
    """The files in a folder and its subfolders, relative to it, with `/`, sorted."""
    # `Path.rglob` would keep every path that it has found, a kilobyte each.
    found = []
    for place, _, names in os.walk(folder):
        below = Path(place).relative_to(folder).as_posix()
        found += names if below == "." else [f"{below}/{name}" for name in names]
    return sorted(found)


def is_stage(name: str) -> bool:
    """Whether a folder of that name is an export in progress or left by a killed process."""
    return _STAGE.fullmatch(name) is not None


def publish(stage: Path, filesystem: pafs.FileSystem, folder: str, main: str, parts: list[str]) -> None:
    """Replace an export by the files in a local folder.

    Args:
        stage: the local folder.
        filesystem: of the output.
        folder: where the files belong.
        main: the export's one file; "" if the export is a folder.
        parts: folders beside `main` that belong to the export.

    Raises:
        OSError: it cannot be written; the old export is unchanged.
        OutputError: the same; or the new export is complete but not yet under its files' names.
    """
    files = sorted((name for name in files_below(stage) if name != MARKER), key=lambda name: (name == main, name))
    place = Location(filesystem, folder)
    if files == [main]:
        with (stage / main).open("rb") as file, place.child(main).stream() as sink:
            shutil.copyfileobj(file, sink, _CHUNK_BYTES)
        return
    prefix = f".everymask-export.{main}." if main else ".everymask-export."
    new = place.child(f"{prefix}{uuid.uuid4().hex}")
    switch = place.child(f"{prefix}json")
    old = {name for part in parts or [""] for name in _files_of(place.child(part) if part else place, part)}
    try:
        for name in files:
            _upload(stage / name, new.child(name))
        switch.write(marker_text(files, new.name, old.difference(files)).encode())
    except BaseException:
        with suppress(OSError):
            new.delete()
        raise
    try:
        _settle(place, new, files, old)
        if main:
            switch.delete()
        else:
            switch.write(marker_text(files).encode())
        for left in place.entries():
            if is_stage(left.name) and left.name.startswith(prefix):
                left.delete()
    except OSError as error:
        raise OutputError(
            f"the new export is whole in {new}, but its files could not all be copied to {folder} ({one_line(error)}); "
            "the same command with --overwrite does it again"
        ) from error


def _settle(place: Location, new: Location, files: list[str], old: set[str]) -> None:
    for name in files:
        target = place.child(name)
        place.filesystem.create_dir(target.path.rpartition("/")[0], recursive=True)
        place.filesystem.copy_file(new.child(name).path, target.path)
    for name in old.difference(files, [MARKER]):
        if place.child(name).kind() == "file":
            place.child(name).delete()


def _files_of(place: Location, part: str) -> list[str]:
    """An earlier export's files in a folder: those its marker names, or all if an old version's marker names none."""
    try:
        content = parse_json(place.child(MARKER).read())
        found = content.get("files") and [*content["files"], *content.get("stale", [])]
    except (OSError, ValueError, AttributeError, TypeError):
        return []
    if not found:
        infos = place.filesystem.get_file_info(pafs.FileSelector(place.path, recursive=True))
        paths = [info.path[len(place.path.rstrip("/")) + 1 :] for info in infos if info.type == pafs.FileType.File]
        found = [path for path in paths if not is_stage(path.partition("/")[0])]
    return [f"{part}/{name}" if part else str(name) for name in found if ".." not in str(name).split("/")]


def _upload(source: Path, target: Location) -> None:
    """Copy one local file to a place that no reader uses yet."""
    target.filesystem.create_dir(target.path.rpartition("/")[0], recursive=True)
    with source.open("rb") as file, target.filesystem.open_output_stream(target.path) as sink:
        shutil.copyfileobj(file, sink, _CHUNK_BYTES)
