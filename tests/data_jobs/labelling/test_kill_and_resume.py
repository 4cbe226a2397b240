"""kill -9 in the middle of a run, and the same command again: nothing lost, nothing twice, every row the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everymask.backbone.sam import SamBackbone
from everymask.entities.config import AmgConfig
from everymask.images.decoding import decode_image
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.labels.provenance import read_run
from everymask.labels.store import LabelStore

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).resolve().parents[3]
IMAGES = 40
AMG = AmgConfig(points_per_side=6, pred_iou_thresh=0, stability_score_thresh=0)
DEADLINE_S = 240


def command(photos: Path, output: Path, checkpoint: Path) -> list[str]:
    return [
        *(sys.executable, "data_jobs/label_dataset.py", "--input", str(photos), "--output", str(output)),
        *("--model", "vit_b", "--checkpoint", str(checkpoint), "--device", "cpu", "--actors", "2", "--previews", "0"),
        *("--batch-size", "1"),
        *("--method", "amg", "--amg.points-per-side", "6"),
        *("--amg.pred-iou-thresh", "0", "--amg.stability-score-thresh", "0"),
    ]


Start = Callable[[list[str], Path], subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a command that writes into a log; none outlives the test."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    with ExitStack() as ends:

        def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
            with log.open("wb") as stream:
                process = subprocess.Popen(
                    arguments, cwd=REPOSITORY, env=environment, stdout=stream, stderr=subprocess.STDOUT
                )
            ends.callback(process.kill)
            return process

        yield start


def wait_for_parts(store: LabelStore, process: subprocess.Popen[bytes], log: Path) -> None:
    wait_until(lambda: bool(store.parts()), process, log)


def wait_until(it_is_so: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not it_is_so():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)  # between two looks at the folder


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


@pytest.mark.slow
def test_a_killed_run_resumes_to_what_the_library_says(
    tiny_sam_checkpoint: Path, tiny_sam: SamBackbone, tmp_path: Path, start: Start
) -> None:
    photos = tmp_path / "photos"
    write_pictures(photos)
    killed = LabelStore(str(tmp_path / "killed"))

    process = start(command(photos, Path(killed.root), tiny_sam_checkpoint), tmp_path / "1.log")
    wait_for_parts(killed, process, tmp_path / "1.log")
    process.kill()
    process.wait()
    before = len(list(killed.images()))
    assert 0 < before < IMAGES + 1

    log = tmp_path / "2.log"
    assert start(command(photos, Path(killed.root), tiny_sam_checkpoint), log).wait(DEADLINE_S) == 0, log.read_text()
    check_rows(killed, photos, tiny_sam)
    record = read_run(killed)
    assert record is not None
    assert [attempt.labelled for attempt in record.attempts] == [None, IMAGES + 1 - before]


def check_rows(store: LabelStore, photos: Path, tiny_sam: SamBackbone) -> None:
    """Each image has one row, with what the library says of it."""
    *rows, bad = sorted(store.images(), key=lambda row: row.image_id)
    assert [row.image_id for row in rows] == [f"{number:02d}.png" for number in range(IMAGES)]
    for row in rows:
        picture = decode_image((photos / row.image_id).read_bytes())
        (labels,) = label_images(tiny_sam, [picture], LabelConfig("amg", amg=AMG))
        assert row.labels is not None
        assert [mask.rle for mask in row.labels.masks] == [mask.rle for mask in labels.masks]
        assert [mask.score for mask in row.labels.masks] == pytest.approx([mask.score for mask in labels.masks])
    assert (bad.image_id, bad.labels) == ("bad.png", None)


def test_a_run_in_shards_that_is_killed_resumes_with_the_shard_it_was_at(
    tiny_sam_checkpoint: Path, tiny_sam: SamBackbone, tmp_path: Path, start: Start
) -> None:
    photos = tmp_path / "photos"
    write_pictures(photos)
    store = LabelStore(str(tmp_path / "killed"))
    sharded = [*command(photos, Path(store.root), tiny_sam_checkpoint), "--shard-images", "16"]

    def files(pattern: str) -> list[Path]:
        return list(Path(store.labels).glob(pattern))

    # While the first shard is put together (a draft, or the part), or just when it is sealed.
    process = start(sharded, tmp_path / "1.log")
    wait_until(lambda: bool(files("*000000-????????-0000.parquet*")), process, tmp_path / "1.log")
    process.kill()
    process.wait()
    # In the middle of the second shard, with the first one sealed.
    process = start(sharded, tmp_path / "2.log")
    wait_until(lambda: bool(files("000001-part-*")), process, tmp_path / "2.log")
    process.kill()
    process.wait()
    assert (Path(store.shards) / "000000" / "seal.json").exists()
    sealed = {path: path.stat().st_mtime_ns for path in files("000000-????????-0000.parquet")}

    log = tmp_path / "3.log"
    assert start(sharded, log).wait(DEADLINE_S) == 0, log.read_text()
    check_rows(store, photos, tiny_sam)
    assert [group.is_sealed for group in store.groups()] == [True, True, True]
    assert {path: path.stat().st_mtime_ns for path in files("000000-*")} == sealed
    assert {path.name for path in files("*")} == {part.name for part in store.parts()}
    record = read_run(store)
    assert record is not None
    assert [attempt.labelled is None for attempt in record.attempts] == [True, True, False]


@pytest.mark.slow
def test_an_update_that_is_killed_leaves_the_labels_as_they_were_and_is_resumed(
    tiny_sam_checkpoint: Path, tiny_sam: SamBackbone, tmp_path: Path, start: Start
) -> None:
    photos = tmp_path / "photos"
    write_pictures(photos)
    store, log = LabelStore(str(tmp_path / "out")), tmp_path / "log"
    coarse = [*command(photos, Path(store.root), tiny_sam_checkpoint), "--amg.points-per-side", "2"]
    assert start(coarse, log).wait(DEADLINE_S) == 0, log.read_text()
    before = {row.image_id: row for row in store.images()}
    update = [*command(photos, Path(store.root), tiny_sam_checkpoint), "--update"]

    process = start(update, tmp_path / "1.log")
    made = LabelStore(f"{store.uri}/update")
    wait_for_parts(made, process, tmp_path / "1.log")
    process.kill()
    process.wait()
    done = len(list(made.images()))
    assert 0 < done < IMAGES + 1
    assert {row.image_id: row for row in store.images()} == before

    assert start(update, log).wait(DEADLINE_S) == 0, log.read_text()
    check_rows(store, photos, tiny_sam)
    record = read_run(store)
    assert record is not None
    assert [attempt.labelled for attempt in record.attempts] == [IMAGES + 1, None, IMAGES + 1 - done]


def test_a_terminated_run_ends_in_order_and_leaves_nothing_running(
    tiny_sam_checkpoint: Path, tmp_path: Path, start: Start
) -> None:
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
