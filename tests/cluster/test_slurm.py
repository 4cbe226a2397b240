"""cluster/slurm/label.sbatch in a Slurm of two nodes on this machine: rows, exit codes, the end of a job's time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.multinode import JOB_TIMEOUT_S, PATIENCE, REPOSITORY, parts, rows, write_images
from tests.free_ports import free_ports
from tests.machine import SLURM, reason_without

IMAGES = 24
SCRIPT = REPOSITORY / "cluster" / "slurm" / "label.sbatch"

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(os.geteuid() != 0, reason="Slurm's daemons run as root here, and this user is another"),
    pytest.mark.skipif(not SLURM.found(), reason=reason_without(SLURM)),
]

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SlurmdParameters=config_overrides
SlurmctldPort={controller}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}/state
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MailProg=/bin/true
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=4
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=4
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A controller and two nodes, told apart by their ports."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self._folder, self._checkpoint = folder, checkpoint
        host = socket.gethostname()
        controller, first, second = free_ports(3)
        settings = folder / "slurm.conf"
        settings.write_text(
            CONFIGURATION.format(folder=folder, host=host, controller=controller, first=first, second=second)
        )
        self._environment = os.environ | PATIENCE
        self._environment |= {"SLURM_CONF": str(settings), "EVERYMASK_BIN": str(Path(sys.executable).parent)}
        (folder / "state").mkdir()
        self._servers = [
            subprocess.Popen(command, env=self._environment)
            for command in (["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"])
        ]
        wait_until(lambda: self("sinfo", "--noheader", "--format=%D %t") == "2 idle", "two idle nodes")

    def __call__(self, *command: str) -> str:
        """What one of Slurm's commands prints; nothing where it fails."""
        return subprocess.run(command, env=self._environment, capture_output=True, text=True).stdout.strip()

    def options(self, images: Path, output: Path) -> list[str]:
        """Options of a run with the tiny model."""
        run = ["--input", str(images), "--output", str(output), "--model", "vit_b", "--actors", "2"]
        run += ["--checkpoint", str(self._checkpoint), "--previews", "0"]
        return [*run, "--entities.points-per-side", "2", "--entities.gallery-points-per-side", "4"]

    def submit(self, images: Path, output: Path) -> str:
        """`sbatch` of a run on both nodes; the job's number."""
        size = ["--nodes=2", "--cpus-per-task=2", "--gpus-per-node=0", f"--output={self.log}"]
        number = self("sbatch", "--parsable", *size, str(SCRIPT), *self.options(images, output))
        assert number, "sbatch refused the job"
        return number

    @property
    def log(self) -> Path:
        """What the jobs print."""
        return self._folder / "jobs.log"

    def state(self, number: str) -> str:
        """`RUNNING`, `COMPLETED`, `FAILED` …, with the exit code: `COMPLETED 0:0`."""
        fields = dict(
            field.split("=", 1) for field in self("scontrol", "show", "job", number).split() if field.count("=") == 1
        )
        return f"{fields.get('JobState')} {fields.get('ExitCode')}"

    def stop(self) -> None:
        """End every job, then the nodes and the controller."""
        self("scancel", "--user", "root")
        wait_until(lambda: self("squeue", "--noheader") == "", "no job left")
        for server in reversed(self._servers):
            server.terminate()
            server.wait(60)


def wait_until(condition: Callable[[], bool], wanted: str) -> None:
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {wanted}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory, tiny_sam_checkpoint: Path) -> Iterator[Slurm]:
    slurm = Slurm(tmp_path_factory.mktemp("slurm"), tiny_sam_checkpoint)
    yield slurm
    slurm.stop()


def test_a_run_on_two_nodes_has_the_rows_of_a_plain_run(slurm: Slurm, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", IMAGES)
    number = slurm.submit(images, tmp_path / "labels")
    wait_until(lambda: slurm.state(number).startswith(("COMPLETED", "FAILED")), "the end of the job")
    assert slurm.state(number) == "COMPLETED 0:0", slurm.log.read_text()

    command = [sys.executable, str(REPOSITORY / "data_jobs" / "label_dataset.py")]
    subprocess.run([*command, *slurm.options(images, tmp_path / "plain")], check=True, capture_output=True)
    assert rows(tmp_path / "labels") == rows(tmp_path / "plain")
    assert len(rows(tmp_path / "plain")) == IMAGES


def test_the_jobs_exit_code_is_the_runs(slurm: Slurm, tmp_path: Path) -> None:
    number = slurm.submit(tmp_path / "nothing", tmp_path / "labels")
    wait_until(lambda: slurm.state(number).startswith(("COMPLETED", "FAILED")), "the end of the job")
    assert slurm.state(number) == "FAILED 2:0"
    assert "nothing" in slurm.log.read_text()


def test_out_of_time_it_stops_in_order_and_queues_itself_again(slurm: Slurm, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 400)
    output = tmp_path / "labels"
    number = slurm.submit(images, output)
    wait_until(lambda: output.is_dir() and parts(output) > 0, "the first rows")
    slurm("scancel", "--batch", "--signal=USR1", number)  # as Slurm does by itself 180 s before the end
    wait_until(lambda: slurm.state(number).startswith("PENDING"), "the job in the queue again")
    assert 0 < len(rows(output)) < 400
    assert "queues itself again" in slurm.log.read_text()
