"""Debian's Prometheus beside a real job and a real service: every panel of the dashboard moves while they work."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image

from everymask.backbone.sam import SamBackbone
from supply.monitoring import ALERTS, FOLDER, INTERVAL, JOB_PANELS, OF_SERVE, PANELS, RANGE
from tests.free_ports import free_port
from tests.machine import PROMETHEUS, REPOSITORY, reason_without
from tests.serve.pictures import encoded, picture
from tests.serve.running_service import COARSE, RunningService, await_that, start_service, write_head

IMAGES, BROKEN_OF = 160, 5
SHARD_IMAGES = 16
MOST_AT_ONCE = 6
SCRAPE_S = 5
LIMIT_S = 600.0

pytestmark = [
    pytest.mark.serve,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not PROMETHEUS.found(), reason=reason_without(PROMETHEUS)),
]


class Prometheus:
    """A running Prometheus that scrapes the nodes of a cluster.

    Args:
        url: where it answers.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def values(self, query: str, seconds: float = 600.0) -> list[list[float]]:
        """The values of each series of a query in the last seconds, one a second."""
        now = time.time()
        limits = {"query": query, "start": now - seconds, "end": now, "step": 1}
        answer = httpx.get(f"{self._url}/api/v1/query_range", params=limits, timeout=30).json()
        assert answer["status"] == "success", answer
        return [[float(value) for _, value in series["values"]] for series in answer["data"]["result"]]

    def alerts(self) -> set[str]:
        """Names of the alerts that are known and healthy."""
        groups = httpx.get(f"{self._url}/api/v1/rules", timeout=30).json()["data"]["groups"]
        return {rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "ok"}


@contextmanager
def prometheus(found: Sequence[Path], folder: Path) -> Iterator[Prometheus]:
    """The shipped configuration with the targets that these files name, asked every few seconds."""
    configuration = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    # On a busy machine Ray's agent takes seconds to answer, and a scrape may last no longer than the interval.
    configuration["global"] = {
        "scrape_interval": f"{SCRAPE_S}s",
        "scrape_timeout": f"{SCRAPE_S}s",
        "evaluation_interval": f"{SCRAPE_S}s",
    }
    configuration["rule_files"] = [str(FOLDER / "alerts.yaml")]
    configuration["scrape_configs"][0]["file_sd_configs"] = [
        {"files": [str(file) for file in found], "refresh_interval": "1s"}
    ]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        "--config.file",
        str(folder / "prometheus.yaml"),
        "--storage.tsdb.path",
        str(folder / "db"),
    ]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([*command, "--web.listen-address", address], stdout=log, stderr=log)
    try:
        await_that(lambda: _ready(address))
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(timeout=60)


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/-/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def write_images(folder: Path) -> None:
    """Pictures of several sizes, and among them files that are none: a rate needs errors one after another."""
    folder.mkdir()
    for number in range(IMAGES):
        place = folder / f"{number:03}.png"
        if number % BROKEN_OF == BROKEN_OF - 1:
            place.write_bytes(b"this is no image")
            continue
        pixels = np.random.default_rng(number).integers(0, 255, (40 + number % 50, 64, 3), np.uint8)
        Image.fromarray(pixels).save(place)


def targets(service: RunningService) -> Path:
    """The file in which Ray names what Prometheus should ask."""
    return service.temporary / "ray/prom_metrics_service_discovery.json"


@contextmanager
def job(service: RunningService, checkpoint: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`everymask label` in shards, on a Ray of its own: (its process, a file that names its node's metrics).

    The service's cluster has a CPU for each core of this machine, too few for both.
    """
    write_images(folder / "images")
    command = [sys.executable, "-m", "data_jobs.label_dataset", "--input", str(folder / "images")]
    command += ["--output", str(folder / "labels"), "--model", "vit_b", "--checkpoint", str(checkpoint)]
    command += ["--method", "amg", "--amg.points-per-side", "8", "--amg.pred-iou-thresh", "0"]
    # On a CPU a labeller has one image in work: with two, their number changes.
    command += ["--amg.stability-score-thresh", "0", "--actors", "2", "--shard-images", str(SHARD_IMAGES)]
    temporary = Path(tempfile.mkdtemp(prefix="em-", dir="/tmp"))  # Ray's sockets must have short paths
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
        "RAY_TMPDIR": str(temporary),
        "RAY_metrics_report_interval_ms": "2000",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    with (folder / "job.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:

        def ports() -> list[str]:
            """Of the one node, once Ray has written it: a Ray without a dashboard names no targets."""
            files = temporary.glob("ray/session_2*/metrics_export_port_*")
            return [port for file in files if (port := file.read_text().strip())]

        await_that(lambda: bool(ports()), 120.0)
        (port,) = ports()
        host = json.loads(targets(service).read_text())[0]["targets"][0].rpartition(":")[0]
        named = [{"labels": {"job": "ray"}, "targets": [f"{host}:{port}"]}]
        (folder / "job.json").write_text(json.dumps(named))
        yield process, folder / "job.json"
    finally:
        process.terminate()
        process.wait(timeout=120)
        shutil.rmtree(temporary, ignore_errors=True)


def ask_for_ever(service: RunningService, done: threading.Event) -> None:
    """Ask in rounds of one to six requests at the same time: for new pictures, then for the same once more.

    The encoder takes what came while it was busy as one batch: only requests at the same time make larger ones.
    """
    with service.client() as client, ThreadPoolExecutor(MOST_AT_ONCE) as together:

        def ask(image: bytes) -> int:
            return client.post("/v1/entities", files={"image": ("a.png", image)}).status_code

        for number in itertools.count():
            images = [encoded(picture(MOST_AT_ONCE * number + one)) for one in range(1 + number % MOST_AT_ONCE)]
            for _ in range(2):
                if done.is_set():
                    return
                list(together.map(ask, images))
            done.wait(1.0)  # so that the job gets on, too


@pytest.fixture(scope="module")
def service(
    tiny_sam_checkpoint: Path, tiny_sam: SamBackbone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    heads = tmp_path_factory.mktemp("heads")
    write_head(heads, "discs", tiny_sam)
    settings: dict[str, Any] = {"model": "vit_b", "checkpoint": str(tiny_sam_checkpoint), "device": "cpu", **COARSE}
    with start_service({**settings, "max_batch_size": 4}, heads) as running:
        yield running


def moves(series: list[list[float]]) -> bool:
    """Whether some series has two values that are not zero, and differ."""
    return any(len({round(value, 6) for value in values if value > 0}) > 1 for values in series)


def test_every_panel_moves_while_a_job_and_a_service_work(
    service: RunningService, tiny_sam_checkpoint: Path, tmp_path: Path
) -> None:
    done = threading.Event()
    asker = threading.Thread(target=ask_for_ever, args=(service, done))
    queries = {
        f"{panel.title}: {legend}": query.replace(INTERVAL, f"{4 * SCRAPE_S}s").replace(RANGE, "5m")
        for panel in PANELS
        for legend, query in panel.queries.items()
    }
    panels_of_job = {f"{panel.title}: {legend}" for panel in JOB_PANELS for legend in panel.queries}
    still = dict(queries)
    with (
        job(service, tiny_sam_checkpoint, tmp_path) as (process, of_job),
        prometheus([targets(service), of_job], tmp_path) as asked,
    ):
        try:
            asker.start()
            deadline = time.monotonic() + LIMIT_S
            while still and time.monotonic() < deadline:
                ended = process.poll() is not None
                still = {name: query for name, query in still.items() if not moves(asked.values(query))}
                print(f"{deadline - time.monotonic():.0f} s left for {sorted(still)}", flush=True)
                if ended and still.keys() & panels_of_job:
                    break  # what has not moved by the end of the job will not move
                done.wait(5.0)
            for name, query in queries.items():
                seen = [value for series in asked.values(query) for value in series if value > 0]
                ends = f"{min(seen):.4g} to {max(seen):.4g}" if seen else "nothing"
                print(f"{name}: {query} = {ends}")
            for name in OF_SERVE[:1]:
                assert any(value == 1 for series in asked.values(name) for value in series), name
            assert asked.alerts() == {f"Everymask{alert.name}" for alert in ALERTS}
        finally:
            done.set()
            asker.join()
    assert not still, (tmp_path / "job.log").read_text()[-3000:]
