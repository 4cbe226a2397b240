"""The labelling job on a real cluster of several nodes, with things going wrong.

Every time: each input has exactly one row, and the rows equal those of a run that nothing happened to.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from ray.cluster_utils import Cluster

from tests.cluster.multinode import (
    FAULTY,
    OBJECT_STORE_BYTES,
    Jobs,
    Row,
    add_node,
    environment,
    labellers,
    multinode_cluster,
    parts,
    rows,
    wait_until,
    write_images,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(2400)]

IMAGES = 80
NODES = 3
IMAGE_BYTES = 5 * 2**20


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that tells the faulty storage what to do."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def cluster(faults: Path) -> Iterator[Cluster]:
    with (
        environment(PYTHONPATH=str(FAULTY), FAULTY_STORAGE=str(faults)),
        multinode_cluster({"num_cpus": 2}, {"num_cpus": 2}) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def jobs(cluster: Cluster, tiny_sam_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    return Jobs(cluster.address, tiny_sam_checkpoint, tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("input") / "images", IMAGES)


@pytest.fixture(scope="module")
def undisturbed(jobs: Jobs, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    """Rows of a run that nothing happens to."""
    output = tmp_path_factory.mktemp("undisturbed") / "labels"
    jobs.start(images, output).wait()
    result = rows(output)
    assert len(result) == IMAGES
    return result


def test_a_killed_worker_is_replaced(jobs: Jobs, images: Path, undisturbed: dict[str, Row], tmp_path: Path) -> None:
    job = jobs.start(images, tmp_path / "labels")
    wait_until(lambda: parts(tmp_path / "labels") >= 2, job)
    os.kill(labellers()[0]["Pid"], signal.SIGKILL)
    job.wait()
    assert rows(tmp_path / "labels") == undisturbed


def test_a_killed_node_costs_no_row(
    cluster: Cluster, jobs: Jobs, images: Path, undisturbed: dict[str, Row], tmp_path: Path
) -> None:
    job = jobs.start(images, tmp_path / "labels")
    wait_until(lambda: parts(tmp_path / "labels") >= 2, job)
    at_work = {actor["Address"]["NodeID"] for actor in labellers()}
    victim = next(node for node in cluster.worker_nodes if node.node_id in at_work)
    cluster.remove_node(victim, allow_graceful=False)
    try:
        job.wait()
        assert rows(tmp_path / "labels") == undisturbed
    finally:
        add_node(cluster, num_cpus=2)


def test_a_killed_driver_is_resumed(jobs: Jobs, images: Path, undisturbed: dict[str, Row], tmp_path: Path) -> None:
    job = jobs.start(images, tmp_path / "labels")
    wait_until(lambda: parts(tmp_path / "labels") >= 2, job)
    job.process.kill()
    job.wait(exit_code=-signal.SIGKILL)
    before = rows(tmp_path / "labels")
    assert 0 < len(before) < IMAGES
    output = jobs.start(images, tmp_path / "labels").wait()
    announced = re.search(r"80 images, (\d+) labelled before, (\d+) to label", output)
    assert announced is not None
    assert int(announced[1]) >= len(before)
    assert rows(tmp_path / "labels") == undisturbed


def test_storage_that_fails_for_a_while_is_tried_again(
    jobs: Jobs, images: Path, undisturbed: dict[str, Row], faults: Path, tmp_path: Path
) -> None:
    (faults / "failures").write_text("5")
    try:
        jobs.start(images, f"faulty://{tmp_path}/labels").wait()
        assert (faults / "failures").read_text() == "0"
        assert rows(tmp_path / "labels") == undisturbed
    finally:
        (faults / "failures").unlink()


def test_reading_waits_for_a_slow_writer(jobs: Jobs, faults: Path, tmp_path: Path) -> None:
    """What is read and not yet written never exceeds the cluster's object stores, though all of it would."""
    images = write_images(tmp_path / "images", IMAGES)
    for path in images.iterdir():
        os.truncate(path, IMAGE_BYTES)  # decoders pass over what follows the picture
    (faults / "events.log").unlink(missing_ok=True)
    (faults / "write_delay_s").write_text("0.5")
    try:
        jobs.start(f"faulty://{images}", f"faulty://{tmp_path}/labels").wait()
    finally:
        (faults / "write_delay_s").unlink()
    result = rows(tmp_path / "labels")
    assert [row["status"] for row in result.values()] == ["ok"] * IMAGES
    in_flight, most = 0, 0
    for line in (faults / "events.log").read_text().splitlines():
        event, _, part = line.partition(" ")
        in_flight += 1 if event == "read" else -pq.read_metadata(tmp_path / "labels" / "labels" / part).num_rows
        most = max(most, in_flight)
    assert IMAGES * IMAGE_BYTES > NODES * OBJECT_STORE_BYTES > most * IMAGE_BYTES


def test_bad_weights_end_the_job_with_the_reason(jobs: Jobs, images: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"no checkpoint")
    output = jobs.start(images, tmp_path / "labels", "--checkpoint", str(weights)).wait(exit_code=2)
    assert str(weights) in output
    assert "Traceback" not in output
    assert parts(tmp_path / "labels") == 0


def test_an_image_that_kills_its_worker_is_given_up(
    jobs: Jobs, undisturbed: dict[str, Row], images: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in images.iterdir():
        (folder / path.name).hardlink_to(path)
    Image.new("RGB", (8, 8)).save(folder / "040-poison.bmp")
    with (folder / "040-poison.bmp").open("ab") as file:
        file.write(b"POISON")
    jobs.start(folder, tmp_path / "labels").wait()
    result = rows(tmp_path / "labels")
    poisoned = result.pop("040-poison.bmp")
    assert poisoned["status"] == "error"
    assert "3 workers died" in poisoned["error"]
    assert {name: row["masks"] for name, row in result.items()} == {
        name: row["masks"] for name, row in undisturbed.items()
    }


def test_a_job_no_node_can_serve_ends_with_what_is_missing(jobs: Jobs, images: Path, tmp_path: Path) -> None:
    output = jobs.start(images, tmp_path / "labels", "--gpus-per-actor", "1").wait(exit_code=2)
    assert "labelling needs 0.5 CPU and 1 GPU on one node, and no node has a GPU" in output
    labelled = ["--node-labels", "ray.io/market-type=spot", "--actors", "1"]
    output = jobs.start(images, tmp_path / "labels", *labelled).wait(exit_code=2)
    assert "ray.io/market-type=spot" in output
