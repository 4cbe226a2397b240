"""A real Ray cluster of several nodes on this machine, and the labelling job run on it as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image
from ray.cluster_utils import Cluster

from everymask.labels.store import LabelStore
from tests.free_ports import free_ports

REPOSITORY = Path(__file__).resolve().parents[2]
FAULTY = Path(__file__).parent / "faulty"
JOB_TIMEOUT_S = 900
NODE_TIMEOUT_S = 300
OBJECT_STORE_BYTES = 100 * 2**20
PATIENCE = {"RAY_raylet_start_wait_time_s": str(NODE_TIMEOUT_S)}
"""For Ray's own start: a node that has not registered within 30 s fails, and on a busy machine it may take longer."""

Row = dict[str, Any]


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables; Ray's nodes and workers started inside have them too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@contextmanager
def multinode_cluster(*nodes: Mapping[str, Any], head_cpus: int = 2) -> Iterator[Cluster]:
    """A head and some more nodes, with this process connected. Stops what it started, and nothing else."""
    cluster = Cluster()
    try:
        with environment(**PATIENCE):
            add_node(cluster, num_cpus=head_cpus, include_dashboard=False)
            for node in nodes:
                add_node(cluster, **node)
            cluster.wait_for_nodes(NODE_TIMEOUT_S)
            ray.init(address=cluster.address, log_to_driver=False)
            yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def add_node(cluster: Cluster, **options: Any) -> None:
    """Add a node, patiently.

    Ray's helpers must name their ports within seconds, or the node dies; on a busy machine that takes some tries.
    """
    helpers = ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")
    ports = {f"{helper}_port": port for helper, port in zip(helpers, free_ports(len(helpers)), strict=True)}
    cluster.add_node(object_store_memory=OBJECT_STORE_BYTES, **ports, **options)


def write_images(folder: Path, count: int) -> Path:
    """Small pictures, all different."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(count):
        pixels = np.full((32, 48, 3), generator.integers(0, 255, 3), np.uint8)
        top, left = generator.integers(0, 16, 2)
        pixels[top : top + 12, left : left + 20] = generator.integers(0, 255, 3)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder


@dataclass
class Job:
    """One start of the labelling command."""

    process: subprocess.Popen[bytes]
    log: Path
    started_at: float

    def wait(self, exit_code: int | None = 0) -> str:
        """Its output, after it has ended with that exit code (None: with any)."""
        try:
            code = self.process.wait(JOB_TIMEOUT_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
        output = self.log.read_text()
        assert exit_code is None or code == exit_code, output
        return output


class Jobs:
    """Starts labelling jobs on a cluster with a fixed, small model.

    Args:
        address: the address of the cluster they run on.
        checkpoint: the tiny SAM's checkpoint.
        folder: for their logs.
    """

    def __init__(self, address: str, checkpoint: Path, folder: Path) -> None:
        self._environment = os.environ | {"RAY_ADDRESS": address}
        self._checkpoint = checkpoint
        self._folder = folder
        self._count = 0

    def start(self, images: Path | str, output: Path | str, *options: str) -> Job:
        """Start a job; later options win over the fixed ones."""
        command = [sys.executable, str(REPOSITORY / "data_jobs" / "label_dataset.py")]
        command += ["--input", str(images), "--output", str(output), "--model", "vit_b", "--actors", "2"]
        command += ["--checkpoint", str(self._checkpoint), "--previews", "0", "--max-errors", "100%"]
        command += ["--entities.points-per-side", "2", "--entities.gallery-points-per-side", "4", *options]
        self._count += 1
        log = self._folder / f"job-{self._count}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(command, env=self._environment, stdout=stream, stderr=stream)
        return Job(process, log, time.monotonic())


def rows(store: Path | str) -> dict[str, Row]:
    """Every row of a store by image id, without its timing; fails if an image has two."""
    table = [row for batch in LabelStore(str(store)).batches() for row in batch.to_pylist()]
    by_id = {row["image_id"]: {**row, "seconds": None} for row in table}
    assert len(by_id) == len(table)
    return by_id


def parts(store: Path) -> int:
    """Parts that have landed so far."""
    return len(list((store / "labels").glob("part-*.parquet")))


def wait_until(condition: Callable[[], bool], job: Job) -> None:
    """Wait for a state of a running job.

    Raises:
        AssertionError: the job ended, or the time is up, before the state came.
    """
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while not condition():
        assert job.process.poll() is None, job.log.read_text()
        assert time.monotonic() < deadline, job.log.read_text()
        time.sleep(0.05)


def labellers() -> list[dict[str, Any]]:
    """The living labeller actors: `Pid`, and `Address` with `NodeID`."""
    actors = ray._private.state.actors()  # type: ignore[attr-defined]
    return [actor for actor in actors.values() if "Labeller" in actor["ActorClassName"] and actor["State"] == "ALIVE"]


def attempts(store: Path) -> list[dict[str, Any]]:
    """The attempts recorded in run.json."""
    recorded: list[dict[str, Any]] = json.loads((store / "run.json").read_text())["attempts"]
    return recorded
