"""The small cluster of the month: commands with their time and memory, a scraper, and what is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.machine import REPOSITORY
from tests.serve.running_service import free_port

LIMIT_S = 7200.0
_OBJECT_STORE_BYTES = 400 * 2**20


@dataclass(frozen=True)
class Step:
    """What a step took: seconds of the clock, and the peak memory of its command in MiB."""

    name: str
    seconds: float
    peak_mib: int


@dataclass
class Machine:
    """Runs commands in a folder on one Ray cluster, as a person at a terminal does.

    Attributes:
        folder: where they run.
        steps: those that ended.
        counters: the highest value of each of the project's metrics that a scrape has seen, by name.
    """

    folder: Path
    address: str
    steps: list[Step] = field(default_factory=list)
    counters: dict[str, float] = field(default_factory=dict)

    def start(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """`everymask COMMAND`, its output in a file."""
        with log.open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "everymask_cli", *command],
                cwd=self.folder,
                env=os.environ | {"RAY_ADDRESS": self.address, "PYTHONPATH": str(REPOSITORY)},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(
        self,
        name: str,
        command: Sequence[str],
        during: Callable[[], None] = lambda: None,
        end_by: signal.Signals | None = None,
    ) -> str:
        """A step: a command until it ends, by itself or by a signal when `during` returns; what it said."""
        log = self.folder / f"{len(self.steps):02d}.log"
        began = time.monotonic()
        process = self.start(command, log)
        memory = _PeakMemory(process.pid)
        memory.start()
        during()
        if end_by is not None:
            os.killpg(process.pid, end_by)
        code = process.wait()
        memory.join()
        said = log.read_text(errors="replace")
        assert end_by or code == 0, f"{name}: {said}"
        self.steps.append(Step(name, round(time.monotonic() - began, 1), memory.mib))
        return said

    def labellers(self) -> list[int]:
        """Processes that label at this moment."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if "LabellerStage" in (entry / "cmdline").read_text():
                        found.append(int(entry.name))
        return found


class _PeakMemory(threading.Thread):
    """Looks at a process until it ends; what `wait4` says would be at least the memory of the process that started it.

    Attributes:
        mib: its peak so far.
    """

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._status = Path(f"/proc/{pid}/status")
        self.mib = 0

    def run(self) -> None:
        with suppress(OSError):
            while found := re.search(r"VmHWM:\s+(\d+)", self._status.read_text()):
                self.mib = int(found[1]) // 1024
                time.sleep(0.1)  # between two looks


def wait_until(it_is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not it_is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)  # between two looks


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A cluster of this machine's cores whose metrics are scraped until the block ends; no process outlives it."""
    gcs, metrics = free_port(), free_port()
    # Ray's sockets must have short paths.
    temporary = Path(subprocess.check_output(["mktemp", "-d", "/tmp/em-XXXXXX"], text=True).strip())
    ray = [str(Path(sys.executable).parent / "ray")]
    command = [*ray, "start", "--head", "--block", "--port", str(gcs), "--metrics-export-port", str(metrics)]
    command += ["--include-dashboard", "false", "--temp-dir", str(temporary), "--num-cpus", "2"]
    command += ["--object-store-memory", str(_OBJECT_STORE_BYTES), "--disable-usage-stats"]
    with (folder / "ray.log").open("wb") as log:
        head = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "RAY_metrics_report_interval_ms": "2000"},
        )
    this = Machine(folder, f"127.0.0.1:{gcs}")
    ended = threading.Event()
    scraper = threading.Thread(target=_scrape, args=(this, metrics, ended))
    try:
        wait_until(lambda: "runtime started" in (folder / "ray.log").read_text())
        scraper.start()
        yield this
    finally:
        ended.set()
        head.send_signal(signal.SIGTERM)
        head.wait(120)
        if scraper.is_alive():
            scraper.join()


def _scrape(this: Machine, port: int, ended: threading.Event) -> None:
    while not ended.wait(2):
        with suppress(httpx.HTTPError):
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
            for name, value in re.findall(r"^(ray_everymask_\w+?)(?:\{.*\})? ([0-9.e+-]+)$", text, re.MULTILINE):
                this.counters[name] = max(this.counters.get(name, 0.0), float(value))
