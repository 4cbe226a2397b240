"""`ray job submit` to a running head: what is typed arrives, exit codes come back, a stopped job can be resumed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import everymask
from data_jobs.export_labels import ExportConfig, write
from tests.cluster.multinode import (
    JOB_TIMEOUT_S,
    OBJECT_STORE_BYTES,
    PATIENCE,
    REPOSITORY,
    parts,
    rows,
    write_images,
)
from tests.formats.exporting import picture_store
from tests.free_ports import free_ports

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(2400)]

RAY = str(Path(sys.executable).with_name("ray"))
IMAGES = 60


class Head:
    """A head node with a dashboard, started as an operator would, and `ray job` pointed at it."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        helpers = ("metrics-export", "dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent")
        port, dashboard_port, *helper_ports = free_ports(2 + len(helpers))
        self.address = f"http://127.0.0.1:{dashboard_port}"
        command = [RAY, "start", "--head", "--block", "--num-cpus=4", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        command += [f"--port={port}", f"--dashboard-port={dashboard_port}"]
        command += [f"--{helper}-port={own_port}" for helper, own_port in zip(helpers, helper_ports, strict=True)]
        # As in an activated virtual environment: jobs say `python`.
        environment = os.environ | PATIENCE | {"PATH": f"{Path(RAY).parent}:{os.environ['PATH']}"}
        with (folder / "head.log").open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + JOB_TIMEOUT_S
        # The dashboard answers before the agent that starts jobs is there.
        while self.job("submit", "--no-wait", "--", "true").returncode:
            assert self.process.poll() is None, (folder / "head.log").read_text()
            assert time.monotonic() < deadline, (folder / "head.log").read_text()
            time.sleep(1)

    def job(self, action: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`ray job ACTION …`, to its end."""
        return subprocess.run(
            [RAY, "job", action, "--address", self.address, *arguments],
            capture_output=True,
            text=True,
            timeout=JOB_TIMEOUT_S,
            cwd=REPOSITORY,
        )

    def submit(
        self, name: str, images: Path, output: Path, *options: str, working_dir: Path = REPOSITORY
    ) -> subprocess.CompletedProcess[str]:
        """Submit the labelling of `images`; options that begin with `--no-wait` go to Ray, others to the job."""
        mine = [option for option in options if option == "--no-wait"]
        command = ["python", "data_jobs/label_dataset.py", "--input", str(images), "--output", str(output)]
        command += ["--model", "vit_b", "--checkpoint", str(self.checkpoint), "--previews", "0", "--actors", "2"]
        command += ["--entities.points-per-side", "2", "--entities.gallery-points-per-side", "4"]
        command += [option for option in options if option not in mine]
        return self.job("submit", "--submission-id", name, "--working-dir", str(working_dir), *mine, "--", *command)

    def stop(self) -> None:
        """End the head and all it started."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def head(tiny_sam_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    head = Head(tmp_path_factory.mktemp("head"), tiny_sam_checkpoint)
    yield head
    head.stop()


def test_what_is_typed_arrives_and_the_exit_code_comes_back(head: Head, tmp_path: Path) -> None:
    images = write_images(tmp_path / 'it\'s "a" $folder; really', 3)
    (images / "broken.png").write_bytes(b"no picture")
    answer = head.submit("quoted", images, tmp_path / "labels of mine", "--max-errors", "0")
    assert answer.returncode == 1
    assert "exit code 3" in answer.stdout + answer.stderr
    assert "1 of 4 images failed" in answer.stdout + answer.stderr
    assert {name: row["status"] for name, row in rows(tmp_path / "labels of mine").items()} == {
        "000.png": "ok",
        "001.png": "ok",
        "002.png": "ok",
        "broken.png": "error",
    }


def test_the_submitted_copy_runs_and_not_the_installed_one(head: Head, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for package in ("everymask", "data_jobs"):
        shutil.copytree(REPOSITORY / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "data_jobs" / "labelling" / "config.py").open("a") as source:
        source.write("\n\nprint('the driver runs the submitted copy')\n")
    with (copy / "everymask" / "images" / "decoding.py").open("a") as source:
        source.write("\n\ndef decode_image(data, limits=None):\n    raise InputError('read by the submitted copy')\n")
    installed = head.job("submit", "--", "python", "-c", "import everymask; print(everymask.__file__)")
    assert everymask.__file__ in installed.stdout
    output = tmp_path / "labels"
    images = write_images(tmp_path / "images", 2)
    answer = head.submit("copied", images, output, "--max-errors", "100%", working_dir=copy)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "the driver runs the submitted copy" in answer.stdout
    assert {row["error"] for row in rows(output).values()} == {"read by the submitted copy"}


def test_a_stopped_job_is_resumed_by_submitting_it_again(head: Head, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", IMAGES)
    undisturbed = head.submit("undisturbed", images, tmp_path / "undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stdout + undisturbed.stderr
    output = tmp_path / "labels"
    last = images / f"{IMAGES - 1:03d}.png"
    picture = last.read_bytes()
    last.unlink()
    os.mkfifo(last)  # whoever opens it waits, so that the job cannot end before it is stopped
    assert head.submit("stopped", images, output, "--no-wait").returncode == 0
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while parts(output) < 2:
        assert time.monotonic() < deadline, head.job("logs", "stopped").stdout
        time.sleep(0.05)
    assert head.job("stop", "stopped").returncode == 0
    assert "was stopped" in head.job("status", "stopped").stdout
    assert 0 < len(rows(output)) < IMAGES
    last.unlink()
    last.write_bytes(picture)
    again = head.submit("again", images, output)
    assert again.returncode == 0, again.stdout + again.stderr
    assert rows(output) == rows(tmp_path / "undisturbed")


def test_a_submitted_export_has_the_bytes_of_one_process(head: Head, tmp_path: Path) -> None:
    store, alone, output = picture_store(tmp_path, 130), tmp_path / "alone.json", tmp_path / "coco.json"
    write(ExportConfig(store.uri, str(alone), processes=1))
    words = ["data_jobs/export_labels.py", "--labels", store.uri, "--output", str(output)]
    answer = head.job("submit", "--working-dir", str(REPOSITORY), "--", "python", *words)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "130 images" in answer.stdout
    assert output.read_bytes() == alone.read_bytes()
