"""Five minutes of random deaths: workers of every stage, nodes, the driver; the rows must be those of a run left alone.

EVERYMASK_SOAK_SECONDS=300 EVERYMASK_SOAK_SEED=0 python -m pytest tests/cluster/test_soak.py -s
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.cluster.multinode import (
    FAULTY,
    Job,
    Jobs,
    add_node,
    environment,
    multinode_cluster,
    parts,
    rows,
    wait_until,
    write_images,
)

SECONDS = float(os.environ.get("EVERYMASK_SOAK_SECONDS", "300"))
SEED = int(os.environ.get("EVERYMASK_SOAK_SEED", "0"))

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(int(SECONDS) + 2400)]

IMAGES = 160
WRITE_DELAY_S = "0.3"
"""So that there is nearly always a writer to kill, and its part half written."""
PAUSE_S = (2.0, 6.0)
PATIENCE_S = 2.0
VICTIMS = {"labeller": 3, "writer": 3, "reader": 3, "node": 1, "driver": 1}
"""How often each is chosen."""
TITLES = {"labeller": "LabellerStage", "writer": "write_part", "reader": ("load_bytes", "read_pending")}
"""What Ray calls a worker process while it works for a stage."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / "write_delay_s").write_text(WRITE_DELAY_S)
    with (
        environment(PYTHONPATH=str(FAULTY), FAULTY_STORAGE=str(tmp_path / "faults")),
        multinode_cluster({"num_cpus": 2}, {"num_cpus": 2}, {"num_cpus": 2}) as cluster,
    ):
        yield cluster


class Reaper:
    """Kills one thing of a kind, if there is one."""

    def __init__(self, cluster: Cluster, random_numbers: random.Random) -> None:
        self._cluster = cluster
        self._random = random_numbers

    def worker(self, kind: str) -> str | None:
        """A worker process of a stage, wherever it runs; waits a little for one."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if at_work := [pid for pid, title in self._workers() if is_of(title, kind)]:
                victim = self._random.choice(at_work)
                with suppress(ProcessLookupError):  # it was done in the meantime
                    os.kill(victim, signal.SIGKILL)
                    return f"process {victim}"
            time.sleep(0.02)
        return None

    def node(self) -> str:
        """A node that is not the head, all its processes at once; a new one comes in its place."""
        victim = self._random.choice(list(self._cluster.worker_nodes))
        self._cluster.remove_node(victim, allow_graceful=False)
        add_node(self._cluster, num_cpus=2)
        return victim.node_id[:8]

    def _workers(self) -> list[tuple[int, str]]:
        """Process id and title of what runs under this cluster's nodes."""
        raylets = {
            info.process.pid for node in self._cluster.list_all_nodes() for info in node.all_processes.get("raylet", [])
        }
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    if parent in raylets:
                        found.append((int(entry.name), (entry / "cmdline").read_text()))
        return found


def is_of(title: str, kind: str) -> bool:
    names = TITLES[kind]
    return title.startswith("ray::") and any(name in title for name in ([names] if isinstance(names, str) else names))


def test_every_row_survives_minutes_of_random_deaths(
    cluster: Cluster, tiny_sam_checkpoint: Path, tmp_path: Path
) -> None:
    jobs = Jobs(cluster.address, tiny_sam_checkpoint, tmp_path)
    images = write_images(tmp_path / "images", IMAGES)
    started = time.monotonic()
    say = Log(started).say
    jobs.start(images, tmp_path / "undisturbed").wait()
    undisturbed = rows(tmp_path / "undisturbed")
    assert len(undisturbed) == IMAGES
    say(f"undisturbed run: {len(undisturbed)} rows")

    deaths: Counter[str] = Counter()
    numbers = random.Random(SEED)
    reaper = Reaper(cluster, numbers)
    end = time.monotonic() + SECONDS
    rounds = 0
    while is_on(end, deaths):
        output = tmp_path / f"round-{rounds}"
        disturbed_round(jobs, images, output, end, deaths, numbers, reaper, say)
        result = rows(output)
        given_up = [name for name, row in result.items() if row["status"] == "error"]
        if given_up:
            # Three deaths while the same image was in work; the documented way on.
            assert all("3 workers died" in result[name]["error"] for name in given_up)
            say(f"{len(given_up)} images given up after three deaths each, tried again with --retry-failed")
            jobs.start(images, f"faulty://{output}", "--retry-failed").wait()
            result = rows(output)
        assert result == undisturbed
        rounds += 1
        say(f"round {rounds}: {len(result)} rows, all equal to the undisturbed run's")
    say(
        f"{deaths.total()} deaths in {rounds} rounds: " + ", ".join(f"{count} {kind}" for kind, count in deaths.items())
    )


def is_on(end: float, deaths: Counter[str]) -> bool:
    """Whether more must die: until the time is up, and on a slow machine until every kind has died."""
    return time.monotonic() < end or set(deaths) != set(VICTIMS)


class Log:
    """Lines with the seconds since the start."""

    def __init__(self, started: float) -> None:
        self._started = started

    def say(self, line: str) -> None:
        print(f"{time.monotonic() - self._started:7.1f} s  {line}", flush=True)


def disturbed_round(
    jobs: Jobs,
    images: Path,
    output: Path,
    end: float,
    deaths: Counter[str],
    numbers: random.Random,
    reaper: Reaper,
    say: Callable[[str], None],
) -> None:
    """Label all images while things die, as long as they must; then let the run finish. Counts what died, by kind."""
    job = start(jobs, images, output)
    before = parts(output)
    while True:
        pause_end = time.monotonic() + numbers.uniform(*PAUSE_S)
        while job.process.poll() is None and time.monotonic() < pause_end:
            time.sleep(0.05)
        if job.process.poll() is not None or not is_on(end, deaths):
            job.wait()
            return
        kind = numbers.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        if time.monotonic() >= end:
            kind = next(kind for kind in VICTIMS if kind not in deaths)
        if kind == "driver":
            # A driver that is killed before its first part each time would never come to an end; nor would this.
            with suppress(AssertionError):
                wait_until(lambda before=before: parts(output) > before, job)  # type: ignore[misc]
            if job.process.poll() is not None:
                continue
            job.process.kill()
            job.wait(exit_code=-signal.SIGKILL)
            victim: str | None = f"process {job.process.pid}"
            job, before = start(jobs, images, output), parts(output)
        else:
            victim = reaper.node() if kind == "node" else reaper.worker(kind)
            if victim is None:  # readers are soon done; a labeller is nearly always at work
                kind = "labeller"
                victim = reaper.worker(kind)
        if victim is not None:
            deaths[kind] += 1
        say(f"{kind} {victim} killed, {parts(output)} parts there" if victim else f"no {kind} at work")


def start(jobs: Jobs, images: Path, output: Path) -> Job:
    return jobs.start(images, f"faulty://{output}")
