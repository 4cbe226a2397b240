"""`everymask relabel` where no machine is until one is asked for, on a head without CPUs as the launchers' have."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch

from data_jobs.labelling.relabel import IMAGES_WORTH_A_WORKER
from everymask.classes.config import ClassesConfig
from everymask.classes.embeddings import StoredEmbeddings, write_embeddings
from everymask.classes.head import ClassHead, HeadSpec, save_head
from everymask.classes.segmenter import describe_masks
from tests.classes.toy import ColourBackbone, picture
from tests.cluster.fake_autoscaler import autoscaling_cluster, port_is_free
from tests.cluster.multinode import JOB_TIMEOUT_S, Job, rows, wait_until
from tests.machine import REPOSITORY

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

NODE_TYPES = {
    market: {
        "resources": {"CPU": 2, "object_store_memory": 100 * 2**20},
        "labels": {"ray.io/market-type": market},
        "node_config": {},
        "min_workers": 0,
        "max_workers": 2,
    }
    for market in ("spot", "on-demand")
}
CONFIG = ClassesConfig(score_thresh=0.0)
SHARDS = 3


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not port_is_free():
        pytest.skip("another Ray head has port 6379, which Ray's fake node provider needs")
    with autoscaling_cluster(NODE_TYPES, tmp_path_factory.mktemp("autoscaler"), head_cpus=0) as address:
        deadline = time.monotonic() + JOB_TIMEOUT_S
        while port_is_free():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        ray.init(address=address, log_to_driver=False)
        yield address
        ray.shutdown()


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with mask embeddings that keep three workers busy, and the head that reads them."""
    folder = tmp_path_factory.mktemp("masks")
    backbone = ColourBackbone()
    found = describe_masks(backbone, backbone.embed([picture([("lime", (4, 4, 20, 20))])])[0], CONFIG)
    one = StoredEmbeddings("", "/pictures/lime.jpg", "0" * 64, found)
    for shard in range(SHARDS):
        records = [replace(one, image_id=f"{shard}/{image}.jpg") for image in range(IMAGES_WORTH_A_WORKER)]
        write_embeddings(folder / "masks", records, CONFIG.masks)
    torch.manual_seed(0)
    spec = HeadSpec(("cherry", "lime"), "colour", "a" * 64, "token+pooled", 3, 3)
    save_head(ClassHead(spec).eval(), folder / "head.safetensors")
    return folder


def start(address: str, masks: Path, output: Path, *options: str) -> Job:
    command = [sys.executable, str(REPOSITORY / "data_jobs" / "relabel.py"), "--embeddings", str(masks / "masks")]
    command += ["--head", str(masks / "head.safetensors"), "--output", str(output), "--previews", "0", *options]
    log = output.with_suffix(".log")
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=os.environ | {"RAY_ADDRESS": address}, stdout=stream, stderr=stream)
    return Job(process, log, time.monotonic())


def markets() -> list[str]:
    """Of the machines that are there."""
    there = [node["Labels"].get("ray.io/market-type") for node in ray.nodes() if node["Alive"]]
    return [market for market in there if market]


def test_it_asks_for_all_its_machines_at_once_and_for_those_of_its_label(
    address: str, masks: Path, tmp_path: Path
) -> None:
    options = ("--actors", "1:4", "--node-labels", "ray.io/market-type=on-demand")
    job = start(address, masks, tmp_path / "labels", *options)
    wait_until(lambda: len(markets()) == 2, job)  # of two CPUs each
    job.wait()
    assert set(markets()) <= {"on-demand"}
    assert len(rows(tmp_path / "labels")) == SHARDS * IMAGES_WORTH_A_WORKER


def test_a_label_that_no_machine_has_is_refused(address: str, masks: Path, tmp_path: Path) -> None:
    output = start(address, masks, tmp_path / "labels", "--node-labels", "ray.io/market-type=reserved").wait(
        exit_code=2
    )
    assert "no node type has that" in output
    assert "ray.io/market-type=reserved" in output
