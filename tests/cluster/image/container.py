"""A process that sees an image and nothing else of this machine, locked down as `pod-security: restricted` asks."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.cluster.image.build import Image
from tests.cluster.image.namespaces import UNSHARE, bind, overlay, system_folders

ADDRESS = "10.88.0.2"
"""The container's address beside loopback: who asks there sees what `docker run -p` would publish."""

FOLDERS_IN_MEMORY = ("/tmp", "/home/everymask:uid=1000,gid=1000,mode=700", "/dev/shm:mode=1777,size=2g")


class Container:
    """A command in an image: root read-only, a user without rights, namespaces of its own; no way to any network.

    Args:
        image: what it sees.
        command: what runs; the image's entrypoint comes before it.
        folder: for its root's mount point, its log and small files.
        environment: beside the image's.
        shared: folders of this machine to places in the container, writable, as `docker run -v`.
        entrypoint: whether the image's comes first, as `docker run` does, and a pod with a command of its own does not.
    """

    def __init__(
        self,
        image: Image,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        shared: Mapping[Path, str] | None = None,
        entrypoint: bool = True,
    ) -> None:
        self._image = image
        self._environment = {**image.environment, **(environment or {})}
        self.log = folder / "container.log"
        root = folder / "root"
        root.mkdir(parents=True, exist_ok=True)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{ADDRESS} container\n")
        first = image.entrypoint if entrypoint else ()
        lines = [
            "ip link set lo up",
            f"ip address add {ADDRESS}/32 dev lo",
            f"ip route add default dev lo src {ADDRESS}",  # an address to be found by, though nothing lies beyond
            "hostname container",
            overlay(image.folders, root),
            *system_folders(root, FOLDERS_IN_MEMORY),
            bind(folder / "hosts", root / "etc/hosts"),
            *(bind(source, root / place[1:], read_only=False) for source, place in (shared or {}).items()),
            f"exec chroot {root} {shlex.join(self._as_user([*first, *command]))}",
        ]
        start = [*UNSHARE, "--net", "--ipc", "--uts", "sh", "-ec", "\n".join(lines)]
        self._beside_processes: list[subprocess.Popen[bytes]] = []
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(start, stdout=log, stderr=subprocess.STDOUT)

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # With the first process of a namespace all others in it go. That it dies with its parent is forgotten by the
        # kernel when it changes its user.
        with suppress(ProcessLookupError):
            os.kill(self._first_process(), signal.SIGKILL)
        self._process.kill()
        for process in (self._process, *self._beside_processes):
            process.wait()

    def _as_user(self, command: Sequence[str]) -> list[str]:
        """The command as the image's user, in its working folder, with its environment, without any right."""
        user, _, group = self._image.user.partition(":")
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        lock = ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
        lock += ["--bounding-set=-all", "--inh-caps=-all"]
        there = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', self._image.working_folder]
        return ["/usr/bin/env", "-i", *variables, *lock, *there, *command]

    def wait(self, timeout_s: float) -> str:
        """What the command printed, after it has ended well.

        Raises:
            AssertionError: it ended otherwise.
        """
        code = self._process.wait(timeout_s)
        assert code == 0, self.log.read_text()
        return self.log.read_text()

    def run(self, *command: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command beside the first one, as `docker exec` does."""
        return subprocess.run(self._beside(command), capture_output=True, text=True, timeout=timeout_s)

    def start(self, *command: str) -> None:
        """Start a command beside the first one, for as long as that runs; its output goes to the container's log."""
        with self.log.open("ab") as log:
            self._beside_processes.append(subprocess.Popen(self._beside(command), stdout=log, stderr=subprocess.STDOUT))

    def output(self, *command: str, timeout_s: float = 300) -> str:
        """What a command beside the first one printed.

        Raises:
            AssertionError: it did not end with 0.
        """
        done = self.run(*command, timeout_s=timeout_s)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def wait_until(self, state: Callable[[], bool], timeout_s: float) -> None:
        """Wait for a state of the running container.

        Raises:
            AssertionError: it ended, or the time is up, before the state came.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            assert self._process.poll() is None, self.log.read_text()
            with suppress(OSError):  # not there yet
                if state():
                    return
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.5)

    def _beside(self, command: Sequence[str]) -> list[str]:
        target = ["nsenter", f"--target={self._first_process()}", "--mount", "--pid", "--net", "--ipc", "--uts"]
        return [*target, "--root", "--wd", *self._as_user(command)]

    def _first_process(self) -> int:
        """Number 1 of the container, by this machine's count."""
        own = self._process.pid
        if self._process.poll() is None:
            children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
            if children:
                return int(children[0])
        raise ProcessLookupError("the container has not started yet, or has ended")
