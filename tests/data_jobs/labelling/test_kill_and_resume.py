"""kill -9 in the middle of a run, and the same command again: nothing lost, nothing twice, every row the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everymask.labels.provenance import read_run
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).resolve().parents[3]
IMAGES = 40
DEADLINE_S = 240


def command(photos: Path, output: Path, checkpoint: Path) -> list[str]:
    return [
        *(sys.executable, "data_jobs/label_dataset.py", "--input", str(photos), "--output", str(output)),
        *("--model", "vit_b", "--checkpoint", str(checkpoint), "--device", "cpu", "--actors", "2", "--previews", "0"),
        *("--method", "amg", "--amg.points-per-side", "6"),
        *("--amg.pred-iou-thresh", "0", "--amg.stability-score-thresh", "0"),
    ]


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    with log.open("wb") as stream:
        return subprocess.Popen(arguments, cwd=REPOSITORY, env=environment, stdout=stream, stderr=subprocess.STDOUT)


def wait_for_parts(store: LabelStore, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not store.parts():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)  # between two looks at the folder


def without_seconds(store: LabelStore) -> list[ImageRow]:
    return sorted((replace(row, seconds=0.0) for row in store.images()), key=lambda row: row.image_id)


def processes() -> dict[int, tuple[int, int]]:
    """(parent, time of start) of every process that is not a zombie."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    found[int(entry.name)] = (int(fields[1]), int(fields[19]))
    return found


def descendants(pid: int) -> dict[int, int]:
    """Processes below one, with the times of their start."""
    everything, found, waiting = processes(), {}, [pid]
    while waiting:
        parent = waiting.pop()
        for child, (above, began) in everything.items():
            if above == parent:
                found[child] = began
                waiting.append(child)
    return found


def write_pictures(photos: Path) -> None:
    photos.mkdir()
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 255, (3, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((160, 120), Image.Resampling.NEAREST).save(photos / f"{number:02d}.png")
    (photos / "bad.png").write_bytes(b"no image")


def test_a_killed_run_resumes_to_what_an_uninterrupted_one_gives(tiny_sam_checkpoint: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_pictures(photos)
    killed, whole = LabelStore(str(tmp_path / "killed")), LabelStore(str(tmp_path / "whole"))

    process = start(command(photos, Path(killed.root), tiny_sam_checkpoint), tmp_path / "1.log")
    wait_for_parts(killed, process, tmp_path / "1.log")
    process.kill()
    process.wait()
    before = len(list(killed.images()))
    assert 0 < before < IMAGES + 1

    for store, log in ((killed, tmp_path / "2.log"), (whole, tmp_path / "3.log")):
        finished = start(command(photos, Path(store.root), tiny_sam_checkpoint), log).wait(DEADLINE_S)
        assert finished == 0, log.read_text()
    rows = without_seconds(killed)
    assert [row.image_id for row in rows] == [*(f"{number:02d}.png" for number in range(IMAGES)), "bad.png"]
    assert rows == without_seconds(whole)
    record = read_run(killed)
    assert record is not None
    assert [attempt.labelled for attempt in record.attempts] == [None, IMAGES + 1 - before]


def test_a_terminated_run_ends_in_order_and_leaves_nothing_running(tiny_sam_checkpoint: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos")
    store, log = LabelStore(str(tmp_path / "out")), tmp_path / "log"
    process = start(command(tmp_path / "photos", tmp_path / "out", tiny_sam_checkpoint), log)
    wait_for_parts(store, process, log)
    started = descendants(process.pid)
    assert started
    process.terminate()
    assert process.wait(DEADLINE_S) == 143, log.read_text()
    deadline = time.monotonic() + DEADLINE_S
    while alive := {pid: began for pid, began in started.items() if processes().get(pid, (0, 0))[1] == began}:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)  # between two looks at the processes
    text = log.read_text()
    # Ray's control process may still say that a socket closed while it ended.
    ours = [line for line in text.rstrip().splitlines() if "(gcs_server)" not in line]
    assert ours[-1] == "terminated; what is finished is kept, the same command resumes", text
    assert "Traceback" not in text
    assert "SIGTERM" not in text
    assert 0 < len(list(store.images())) < IMAGES + 1
