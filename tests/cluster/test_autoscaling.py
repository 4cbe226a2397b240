"""The labelling job where no GPU is until one is asked for: Ray's own autoscaler, launching local nodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.cluster.fake_autoscaler import autoscaling_cluster, port_is_free
from tests.cluster.multinode import JOB_TIMEOUT_S, Jobs, rows, wait_until, write_images

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

IMAGES = 16
# The memory of the object store is named, or every node would reserve a third of this machine.
NODE_TYPES = {
    "gpu_spot": {
        "resources": {"CPU": 2, "GPU": 1, "object_store_memory": 100 * 2**20},
        "labels": {"ray.io/market-type": "spot"},
        "node_config": {},
        "min_workers": 0,
        "max_workers": 2,
    }
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not port_is_free():
        pytest.skip("another Ray head has port 6379, which Ray's fake node provider needs")
    with autoscaling_cluster(NODE_TYPES, tmp_path_factory.mktemp("autoscaler")) as address:
        deadline = time.monotonic() + JOB_TIMEOUT_S
        while port_is_free():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        ray.init(address=address, log_to_driver=False)
        yield address
        ray.shutdown()


@pytest.fixture(scope="module")
def jobs(address: str, tiny_sam_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    return Jobs(address, tiny_sam_checkpoint, tmp_path_factory.mktemp("logs"))


def gpu_nodes() -> int:
    return sum(node["Alive"] and node["Resources"].get("GPU", 0) > 0 for node in ray.nodes())


def test_gpu_nodes_come_for_a_job_and_go_after_it(jobs: Jobs, tmp_path: Path) -> None:
    assert gpu_nodes() == 0
    images = write_images(tmp_path / "images", IMAGES)
    job = jobs.start(images, tmp_path / "labels", "--gpus-per-actor", "1", "--actors", "2", "--device", "cpu")
    wait_until(lambda: gpu_nodes() == 2, job)
    job.wait()
    assert len(rows(tmp_path / "labels")) == IMAGES
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while gpu_nodes():
        assert time.monotonic() < deadline, "idle GPU nodes are still there"
        time.sleep(0.5)


def test_a_long_run_asks_for_all_its_machines_at_once(jobs: Jobs, tmp_path: Path) -> None:
    """Of which Ray Data asks none: the second one comes for a labeller that was pending from the start."""
    images = write_images(tmp_path / "images", 2 * 128)
    job = jobs.start(images, tmp_path / "labels", "--gpus-per-actor", "1", "--actors", "1:2", "--device", "cpu")
    wait_until(lambda: gpu_nodes() == 2, job)
    job.wait()
    assert len(rows(tmp_path / "labels")) == 2 * 128


def test_workers_that_no_machine_can_come_for_hold_nobody_up(jobs: Jobs, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", IMAGES)
    jobs.start(images, tmp_path / "labels", "--gpus-per-actor", "1", "--actors", "3", "--device", "cpu").wait()
    assert len(rows(tmp_path / "labels")) == IMAGES


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--gpus-per-actor", "4"], "labelling needs 0.5 CPU and 4 GPU on one node, and no node type has that"),
        (["--gpus-per-actor", "1", "--node-labels", "ray.io/market-type=on-demand"], "ray.io/market-type=on-demand"),
    ],
)
def test_what_the_autoscaler_can_never_add_is_refused_and_starts_nothing(
    jobs: Jobs, tmp_path: Path, options: list[str], reason: str
) -> None:
    images = write_images(tmp_path / "images", 4)
    there = gpu_nodes()
    output = jobs.start(images, tmp_path / "labels", *options).wait(exit_code=2)
    assert "not even with every node its autoscaler may add" in output
    assert reason in output
    assert gpu_nodes() <= there
