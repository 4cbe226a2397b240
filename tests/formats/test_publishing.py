"""Exports that are replaced: the old one whole or the new one, wherever the writing ends."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from everymask.errors import ConfigurationError, OutputError
from everymask.formats.publishing import files_below
from everymask.formats.staging import main_file, staged

OLD = {"data.yaml": "old", "labels/a.txt": "old a", "labels/gone.txt": "old gone"}
NEW = {"data.yaml": "new", "labels/a.txt": "new a", "labels/b.txt": "new b"}


class BreakingFileSystem(MemoryFileSystem):
    """Breaks for good after a number of changes, as for a process that is killed."""

    protocol = "breaking"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    changes_left: ClassVar[int] = 10**9

    @classmethod
    def reset(cls) -> None:
        """Empty, and whole."""
        cls.store.clear()
        cls.pseudo_dirs[:] = [""]
        cls.changes_left = 10**9

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("breaking://")))

    def _change(self) -> None:
        type(self).changes_left -= 1
        if self.changes_left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode != "rb":
            self._change()
        return super()._open(path, mode=mode, **options)

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        self._change()
        super().cp_file(path1, path2, **options)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        self._change()
        super().rm(path, recursive=recursive, maxdepth=maxdepth)


fsspec.register_implementation("breaking", BreakingFileSystem, clobber=True)


@pytest.fixture
def bucket() -> Iterator[BreakingFileSystem]:
    BreakingFileSystem.reset()
    yield fsspec.filesystem("breaking")
    BreakingFileSystem.changes_left = 10**9


def write(output: str, files: dict[str, str], overwrite: bool = False, beside: list[str] | None = None) -> None:
    with staged(output, beside or [], beside is None, overwrite) as stage:
        for name, text in files.items():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).write_text(text)


def found(bucket: BreakingFileSystem, folder: str) -> dict[str, str]:
    """The files below a folder, without those that begin with a dot."""
    files = {path[len(folder) + 1 :]: bucket.cat(path).decode() for path in bucket.find(folder)}
    return {name: text for name, text in files.items() if not any(part[0] == "." for part in name.split("/"))}


def test_an_overwritten_export_leaves_nothing_of_the_old_one(bucket: BreakingFileSystem) -> None:
    write("breaking://bucket/yolo", OLD)
    bucket.pipe("/bucket/yolo/notes.txt", b"mine")
    with pytest.raises(ConfigurationError, match="is there already"):
        write("breaking://bucket/yolo", NEW)
    write("breaking://bucket/yolo", NEW, overwrite=True)
    assert found(bucket, "/bucket/yolo") == {**NEW, "notes.txt": "mine"}
    assert [path for path in bucket.find("/bucket") if "/.everymask-export." in path] == [
        "/bucket/yolo/.everymask-export.json"
    ]


def test_wherever_an_overwrite_breaks_off_one_export_is_whole(bucket: BreakingFileSystem) -> None:
    done = outcomes = 0
    while not done:
        BreakingFileSystem.reset()
        write("breaking://bucket/yolo", OLD)
        BreakingFileSystem.changes_left = outcomes
        try:
            write("breaking://bucket/yolo", NEW, overwrite=True)
            done = 1
        except OutputError:
            outcomes += 1
        BreakingFileSystem.changes_left = 10**9
        marker = json.loads(bucket.cat("/bucket/yolo/.everymask-export.json"))
        place = "/bucket/yolo/" + marker["folder"]
        files = {name: bucket.cat(f"{place.rstrip('/')}/{name}").decode() for name in marker["files"]}
        assert files in (OLD, NEW)
        if files == OLD:
            assert found(bucket, "/bucket/yolo") == OLD
        write("breaking://bucket/yolo", NEW, overwrite=True)
        assert found(bucket, "/bucket/yolo") == NEW
    assert outcomes > 8


def test_a_first_export_that_was_killed_is_no_obstacle(bucket: BreakingFileSystem) -> None:
    BreakingFileSystem.changes_left = 2
    with pytest.raises(OutputError, match="No space left"):
        write("breaking://bucket/yolo", NEW)
    BreakingFileSystem.changes_left = 10**9
    assert bucket.find("/bucket") != []
    write("breaking://bucket/yolo", NEW)
    assert found(bucket, "/bucket/yolo") == NEW


def test_a_file_with_its_images_is_replaced_with_them(bucket: BreakingFileSystem) -> None:
    write("breaking://bucket/o.json", {"o.json": "old", "images/a.jpg": "a", "images/gone.jpg": "g"}, beside=["images"])
    new = {"o.json": "new", "images/a.jpg": "a2", "images/b.jpg": "b"}
    write("breaking://bucket/o.json", new, overwrite=True, beside=["images"])
    assert found(bucket, "/bucket") == new
    assert sorted(path for path in bucket.find("/bucket") if "/." in path) == ["/bucket/images/.everymask-export.json"]


def test_a_question_mark_in_a_local_path_is_a_part_of_it() -> None:
    assert main_file("dir?x=1/o.json", ".json") == "o.json"
    assert main_file("s3://bucket/o.json?region=r", ".json") == "o.json"


KILLED = """
import os, sys
from everymask.formats import staging
replace, output = os.replace, sys.argv[1]
def kill(*_): os.kill(os.getpid(), 9)
with staging.staged(output, [], True, True) as stage:
    (stage / "data.yaml").write_text("never")
    if sys.argv[2] == "stage":
        kill()
    os.replace = kill
"""


@pytest.mark.parametrize("moment", ["stage", "swap"])
def test_what_a_killed_export_left_is_tidied_and_the_old_one_put_back(tmp_path: Path, moment: str) -> None:
    output = tmp_path / "yolo"
    write(str(output), {"data.yaml": "old"})
    killed = subprocess.run([sys.executable, "-c", KILLED, str(output), moment], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 2
    with pytest.raises(ConfigurationError, match="is there already"):
        write(str(output), {"data.yaml": "new"})
    assert os.listdir(tmp_path) == ["yolo"]
    assert (output / "data.yaml").read_text() == "old"
    write(str(output), {"data.yaml": "new"}, overwrite=True)
    assert (output / "data.yaml").read_text() == "new"


OLD_FILE = {"o.json": "old", "o.LICENSES.txt": "terms", "images/a.jpg": "old a", "images/gone.jpg": "gone"}
NEW_FILE = {"o.json": "new", "o.LICENSES.txt": "other terms", "images/a.jpg": "new a", "images/b.jpg": "b"}
BESIDE = ["o.LICENSES.txt", "images"]


def killed_at(change: int, output: Path) -> bool:
    """Whether an export was killed right before one of its renames or deletions, counted from 1."""

    def dying(real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal change
            change -= 1
            if change == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    def work() -> None:
        os.rename, os.replace, shutil.rmtree = dying(os.rename), dying(os.replace), dying(shutil.rmtree)
        write(str(output), NEW_FILE, overwrite=True, beside=BESIDE)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def seen(folder: Path) -> dict[str, str]:
    """What a reader sees: the file, and what lies beside it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path.read_text() for path in files}
    return {name: text for name, text in names.items() if not any(part[0] == "." for part in name.split("/"))}


@pytest.mark.parametrize("there", [OLD_FILE, {}], ids=["replaced", "first"])
def test_wherever_an_export_with_images_beside_it_is_killed_labels_and_images_fit(
    tmp_path: Path, there: dict[str, str]
) -> None:
    moment, done = 0, False
    while not done:
        moment += 1
        folder = tmp_path / str(moment)
        folder.mkdir()
        if there:
            write(str(folder / "o.json"), there, beside=BESIDE)
        done = not killed_at(moment, folder / "o.json")
        left = seen(folder)
        assert "o.json" not in left or left in (there, NEW_FILE)
        with suppress(ConfigurationError):  # the next export of the same name, which finds the old one or none
            write(str(folder / "o.json"), NEW_FILE, beside=BESIDE)
        assert seen(folder) in (there, NEW_FILE)
        assert not [path for path in folder.iterdir() if path.name[0] == "."]
        write(str(folder / "o.json"), NEW_FILE, overwrite=True, beside=BESIDE)
        assert seen(folder) == NEW_FILE
    assert moment > 4


def test_a_file_is_never_away_where_nothing_beside_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"o.json": "old", "o.LICENSES.txt": "terms"}
    write(str(tmp_path / "o.json"), files, beside=BESIDE)
    monkeypatch.setattr(os, "rename", None)
    write(str(tmp_path / "o.json"), files | {"o.json": "new"}, overwrite=True, beside=BESIDE)
    assert seen(tmp_path) == files | {"o.json": "new"}


def test_an_export_that_is_being_made_is_left_alone(tmp_path: Path) -> None:
    with staged(str(tmp_path / "one"), [], True, False) as stage:
        (stage / "data.yaml").write_text("one")
        write(str(tmp_path / "two"), {"data.yaml": "two"})
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


def test_many_files_are_listed_in_little_memory(tmp_path: Path) -> None:
    """One export has a file for each of a hundred thousand images; a `Path` for each would take a kilobyte."""
    names = [f"labels/{number:06d}.txt" for number in range(2000)]
    (tmp_path / "labels").mkdir()
    for name in [*names, "data.yaml"]:
        (tmp_path / name).touch()
    (tmp_path / "again").symlink_to(tmp_path / "labels")
    tracemalloc.start()
    try:
        found = files_below(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == ["data.yaml", *names]
    assert peak < 400 * len(names)
