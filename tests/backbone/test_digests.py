"""Digests of large files: right, and computed once a machine however many ask."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from everymask.backbone.digests import REMEMBERED_BYTES, remembered_sha256

FORK = multiprocessing.get_context("fork")
LONG_AGO = time.time() - 3600


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of its own, as a machine nobody has used yet."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A large file that has not changed for long, by the clock of the code under test."""
    path = tmp_path / "weights.pth"
    write(path, b"one")
    clock = time.time_ns
    monkeypatch.setattr("time.time_ns", lambda: clock() + 10**10)
    return path


def write(path: Path, beginning: bytes) -> str:
    """Fill the file; returns its true digest."""
    content = beginning.ljust(REMEMBERED_BYTES, b"\0")
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def bytes_read() -> int:
    """By this process, so far."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])


def digest_in_process(path: Path) -> tuple[str, int]:
    before = bytes_read()
    return remembered_sha256(path), bytes_read() - before


def test_many_workers_that_start_together_read_the_file_once(checkpoint: Path) -> None:
    with FORK.Pool(16) as pool:
        answers = pool.map(digest_in_process, [checkpoint] * 16, chunksize=1)
    assert {digest for digest, _ in answers} == {hashlib.sha256(checkpoint.read_bytes()).hexdigest()}
    assert sum(read >= REMEMBERED_BYTES for _, read in answers) == 1


def test_a_file_of_the_same_size_and_time_in_its_place_is_seen(checkpoint: Path) -> None:
    os.utime(checkpoint, (LONG_AGO, LONG_AGO))
    first = remembered_sha256(checkpoint)
    truth = write(checkpoint, b"two")
    os.utime(checkpoint, (LONG_AGO, LONG_AGO))
    assert remembered_sha256(checkpoint) == truth != first
    other = checkpoint.with_name("other.pth")
    truth = write(other, b"three")
    os.utime(other, (LONG_AGO, LONG_AGO))
    other.replace(checkpoint)
    assert remembered_sha256(checkpoint) == truth


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path, machine: Path) -> None:
    path = tmp_path / "fresh.pth"
    truth = write(path, b"one")
    assert remembered_sha256(path) == truth
    assert not [file for file in machine.rglob("*") if file.is_file() and not file.suffix]


def test_a_folder_that_others_may_write_is_not_believed(checkpoint: Path, machine: Path) -> None:
    truth = remembered_sha256(checkpoint)
    (folder,) = machine.iterdir()
    (record,) = [file for file in folder.iterdir() if not file.suffix]
    record.write_text(record.read_text().replace(truth, "0" * 64))
    assert remembered_sha256(checkpoint) == "0" * 64, "the record is what is looked up"
    folder.chmod(0o777)
    assert remembered_sha256(checkpoint) == truth


def test_a_damaged_record_costs_a_second_look(checkpoint: Path, machine: Path) -> None:
    truth = remembered_sha256(checkpoint)
    (record,) = [file for file in machine.rglob("*") if file.is_file() and not file.suffix]
    record.write_text("{")
    assert remembered_sha256(checkpoint) == truth
