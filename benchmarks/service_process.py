"""The service as a process to be measured: start, memory, counters, stop. Used by serve.py."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Service:
    """A running service.

    Attributes:
        url: where it answers.
        process: `serve run`.
        temporary: Ray's temporary folder.
    """

    url: str
    process: subprocess.Popen[bytes]
    temporary: Path

    def resident_mib(self) -> float:
        """Private memory of the proxy and every replica, in MiB, as Linux counts it."""
        folders = [folder for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
        return sum(private_mib(folder) for folder in folders if self._serves(folder))

    def counter(self, name: str) -> float:
        """A counter of the service, summed over replicas, as Prometheus would read it now; 0 before it first counts."""
        (targets,) = self.temporary.glob("ray/prom_metrics_service_discovery.json")
        total = 0.0
        for address in json.loads(targets.read_text())[0]["targets"]:
            try:
                lines = httpx.get(f"http://{address}/metrics", timeout=30).text.splitlines()
            except httpx.ConnectError:
                # Ray lists its autoscaler and dashboard on fixed ports, whether or not they got them.
                continue
            total += sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"ray_{name}_total{{"))
        return total

    def _serves(self, folder: Path) -> bool:
        """Whether a process, by its folder in /proc, is the proxy or a replica of this service."""
        try:
            return (folder / "cmdline").read_bytes().startswith((b"ray::ServeReplica", b"ray::ProxyActor")) and (
                f"RAY_TMPDIR={self.temporary}\0".encode() in (folder / "environ").read_bytes()
            )
        except OSError:  # gone meanwhile
            return False


def private_mib(folder: Path) -> float:
    """Memory a process, by its folder in /proc, shares with no other, in MiB."""
    lines = (folder / "smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) / 1024


@contextmanager
def running_service(config: Path, args: dict[str, Any]) -> Iterator[Service]:
    """`serve run` with a configuration and these `args` instead of its own, on a free port, in a Ray of its own."""
    # Ray's sockets must have short paths.
    temporary = Path(tempfile.mkdtemp(prefix="em-", dir="/tmp"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    content = yaml.safe_load(config.read_text())
    content["http_options"] |= {"host": "127.0.0.1", "port": port}
    content["applications"][0]["args"] = args
    (temporary / "config.yaml").write_text(yaml.safe_dump(content))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
        "RAY_TMPDIR": str(temporary),
        "RAY_AUTH_MODE": "disabled",
        "RAY_metrics_report_interval_ms": "1000",
    }
    command = [str(Path(sys.executable).parent / "serve"), "run", str(temporary / "config.yaml")]
    log = temporary / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        await_ready(url, process, log)
        yield Service(url, process, temporary)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(temporary, ignore_errors=True)


def await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the service answers, or fail with its log."""
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"the service did not start:\n{log.read_text()[-3000:]}")
