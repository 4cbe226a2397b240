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

from tests.free_ports import free_port
from tests.machine import REPOSITORY
from tests.month.processes import below, descendants, running_in

LIMIT_S = 7200.0
_GONE_S = 60.0
_OBJECT_STORE_BYTES = 400 * 2**20


@dataclass(frozen=True)
class Step:
    """What a step took: seconds of the clock, the peak memory of its command in MiB, and the machine's load at its end.

    Load is how many processes wanted a core, averaged over a minute.
    """

    name: str
    seconds: float
    peak_mib: int
    load: float


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
        """`everymask COMMAND`, or a Python script of the project with its options; its output in a file."""
        of_everymask = [] if command[0].endswith(".py") else ["-m", "everymask_cli"]
        with log.open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, *of_everymask, *command],
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
        code: int = 0,
    ) -> str:
        """A step: a command until it ends with `code`, or by a signal when `during` returns; what it said.

        AssertionError where it ends otherwise, or leaves a process of its own.
        """
        log = self.folder / f"{len(self.steps):02d}.log"
        began = time.monotonic()
        process = self.start(command, log)
        memory = _PeakMemory(process.pid)
        memory.start()
        during()
        if end_by is not None:
            os.killpg(process.pid, end_by)
        ended_with = process.wait()
        memory.join()
        said = log.read_text(errors="replace")
        assert end_by or ended_with == code, f"{name}: exit code {ended_with}, {said}"
        self.steps.append(Step(name, round(time.monotonic() - began, 1), memory.mib, round(os.getloadavg()[0], 1)))
        wait_until(lambda: not running_in(process.pid), _GONE_S, lambda: f"{name} left {running_in(process.pid)}")
        return said

    def labellers(self) -> list[int]:
        """Processes of this machine that label at this moment."""
        return [found.pid for found in below(os.getpid()) if "LabellerStage" in found.command]


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


def wait_until(
    it_is_so: Callable[[], bool], limit_s: float = LIMIT_S, otherwise: Callable[[], str] = lambda: "it did not happen"
) -> None:
    end = time.monotonic() + limit_s
    while not it_is_so():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.1)  # between two looks


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A cluster of this machine's cores whose metrics are scraped until the block ends.

    AssertionError where a process that was started in the block outlives it.
    """
    with descendants() as started:
        with _cluster(folder) as this:
            yield this
        wait_until(lambda: not started.running(), _GONE_S, lambda: f"still running: {started.running()}")


@contextmanager
def _cluster(folder: Path) -> Iterator[Machine]:
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
