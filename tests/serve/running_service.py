"""The real service, started with the real command in a process of its own: Ray, Serve, proxy and all.

The tests ask the very service that benchmarks/serve.py measures.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import torch
import yaml

from everymask.backbone.protocol import PromptableBackbone
from everymask.classes.features import FeatureKind
from everymask.classes.head import ClassHead, save_head
from everymask.classes.training.train import TrainingConfig, head_spec
from tests.free_ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
API_KEY = "correct horse battery staple"
OTHER_API_KEY = "of somebody else"
CLASSES = ("disc", "field")
START_LIMIT_S = 280.0
COARSE: Mapping[str, Any] = {
    "entities": {
        "points_per_side": 5,
        "gallery_points_per_side": 6,
        "pred_iou_thresh": 0,
        "stability_score_thresh": 0,
    },
    "amg": {"points_per_side": 4, "pred_iou_thresh": 0, "stability_score_thresh": 0},
    "classes": {"masks": {"points_per_side": 4}, "score_thresh": 0.1},
}
"""Settings with which a model of random weights finds masks in a moment."""


@dataclass(frozen=True)
class RunningService:
    """A service that answers.

    Attributes:
        url: where.
        heads: its directory of class heads.
        args: its settings.
        temporary: Ray's temporary folder, with the logs.
    """

    url: str
    heads: Path
    args: dict[str, Any]
    temporary: Path

    def client(self, api_key: str | None = API_KEY) -> httpx.Client:
        """An HTTP client that sends the key, if any."""
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=150.0)

    def log_entries(self, request_id: str) -> list[dict[str, Any]]:
        """What all replicas logged of one request."""
        logs = self.temporary.glob("ray/session_2*/logs/serve/replica_*.log")
        lines = [line for path in logs for line in path.read_text().splitlines() if request_id in line]
        # The last one may be in the middle of being written.
        return [json.loads(line) for line in lines if line.endswith("}")]

    def replica_pid(self, deployment: str) -> int:
        """The process of a deployment with one replica."""
        (folder,) = self._processes(f"ray::ServeReplica:everymask:{deployment}")
        return int(folder.name)

    def private_mib(self) -> float:
        """Memory that the proxy and the replicas share with no other process, in MiB, as Linux counts it."""
        folders = self._processes("ray::ServeReplica") + self._processes("ray::ProxyActor")
        lines = b"\n".join(_content(folder / "smaps_rollup") for folder in folders).splitlines()
        return (
            sum(int(line.split()[1]) for line in lines if line.startswith((b"Private_Clean", b"Private_Dirty"))) / 1024
        )

    def object_store_bytes(self) -> int:
        """The most that Ray's object store may take of this machine."""
        (folder,) = self._processes("[^\0]*/raylet\0")
        option = re.search(rb"--object_store_memory=(\d+)\0", _content(folder / "cmdline"))
        assert option is not None
        return int(option[1])

    def _processes(self, title: str) -> list[Path]:
        """Folders in /proc of this service's processes whose title begins with this expression."""
        ours = f"RAY_TMPDIR={self.temporary}\0".encode()
        return [
            folder
            for folder in Path("/proc").glob("[0-9]*")
            if re.match(title.encode(), _content(folder / "cmdline")) and ours in _content(folder / "environ")
        ]

    def metrics(self, labels: Sequence[str] = ("route", "status", "stage")) -> dict[str, float]:
        """Every sample of the node's Prometheus endpoint, summed, by name and those of these labels that it has."""
        (targets,) = self.temporary.glob("ray/prom_metrics_service_discovery.json")
        samples: dict[str, float] = defaultdict(float)
        for address in json.loads(targets.read_text())[0]["targets"]:
            try:
                lines = httpx.get(f"http://{address}/metrics", timeout=30).text.splitlines()
            except httpx.ConnectError:
                # Ray lists its autoscaler and dashboard on fixed ports, whether or not they got them.
                continue
            for line in lines:
                if line.startswith("ray_everymask_"):
                    name, _, rest = line.partition("{")
                    has, _, value = rest.rpartition("} ")
                    kept = [part for part in has.split(",") if part.split("=")[0] in labels]
                    samples[f"{name}{{{','.join(sorted(kept))}}}"] += float(value)
        return samples


def await_that(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Ask again and again until something is so.

    Raises:
        AssertionError: it was not so for `limit_s` seconds.
    """
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {limit_s:.0f} s"
        time.sleep(0.1)


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """A process that does nothing until the block ends, as a model does that is busy with something else."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _content(path: Path) -> bytes:
    """What a file of a process says; nothing once the process is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def write_head(
    folder: Path,
    name: str,
    backbone: PromptableBackbone,
    weights_sha256: str | None = None,
    features: FeatureKind = "token",
) -> None:
    """A class head with random weights, the same every time."""
    torch.manual_seed(0)
    spec = head_spec(CLASSES, backbone, TrainingConfig(features=features, hidden_dim=8))
    if weights_sha256 is not None:
        spec = replace(spec, weights_sha256=weights_sha256)
    save_head(ClassHead(spec), folder / f"{name}.safetensors")


@contextmanager
def start_service(args: Mapping[str, Any], heads: Path, route_prefix: str = "/") -> Iterator[RunningService]:
    """`everymask serve` with these settings until the block ends."""
    # Ray's sockets must have short paths, and its folder must not be shared with another cluster on this machine.
    temporary = Path(tempfile.mkdtemp(prefix="em-", dir="/tmp"))
    port = free_port()
    (temporary / "keys").write_text(f"# of this service alone\n{API_KEY}\n{OTHER_API_KEY}\n")
    settings = {**args, "heads": str(heads), "api_keys_file": str(temporary / "keys")}
    config = yaml.safe_load((REPOSITORY / "serve/config/local.yaml").read_text())
    config["http_options"] |= {"port": port, "request_timeout_s": 150}
    config["applications"][0] |= {"args": settings, "route_prefix": route_prefix}
    (temporary / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
        "RAY_TMPDIR": str(temporary),
        "OMP_NUM_THREADS": "1",
        # Ray lowers the priority of its workers, which then starve beside other tests.
        "RAY_worker_niceness": "0",
        "RAY_metrics_report_interval_ms": "1000",
        # Serve restarts a proxy that is slow to start, as it is where many tests share few cores.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    }
    # As a cluster that was killed leaves it behind; nobody is there.
    (temporary / "ray").mkdir()
    (temporary / "ray/ray_current_cluster").write_text(f"127.0.0.1:{free_port()}")
    command = [sys.executable, "-m", "everymask_cli", "serve", "--config", str(temporary / "config.yaml")]
    url = f"http://127.0.0.1:{port}{route_prefix.rstrip('/')}"
    process = _started(command, environment, url, temporary / "serve.log")
    try:
        yield RunningService(url, heads, settings, temporary)
    finally:
        _stop(process)
        shutil.rmtree(temporary, ignore_errors=True)


def _started(command: list[str], environment: dict[str, str], url: str, log: Path) -> subprocess.Popen[bytes]:
    """The command's process, once the service is ready."""
    for last in (False, False, True):
        with log.open("w") as output:
            process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        try:
            _await_ready(url, process, log)
            return process
        except RuntimeError as error:
            _stop(process)
            # Ray gives its own processes 30 seconds to start, which a machine full of other tests may not keep.
            if last or "node timed out during startup" not in str(error):
                raise
    raise AssertionError


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"everymask serve ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.25)
    raise RuntimeError(f"the service was not ready after {START_LIMIT_S:.0f} s:\n{log.read_text()[-4000:]}")
