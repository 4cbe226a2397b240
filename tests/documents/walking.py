"""Typing a page's commands, one after the other, in one folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.documents.fenced import REPOSITORY, commands_of
from tests.documents.reasons import reason_not_to_run
from tests.review.round_trips import submit

_COMMAND_S, _SERVER_S = 900, 280
_READ_AS = {
    r" --model (vit_h|mobile_sam)": "",  # weights that cannot be fetched here; nano takes the same way
    r"\{000000\.\.001023\}": "{000000..000001}",
    r"^make (serve|ui)$": r"everymask \1",
}
_SERVERS = {"everymask serve": ":8000", "everymask ui": ":7860", "everymask browse": "http://"}
"""Commands that do not end, each with what their first lines hold once they answer."""


@dataclass(frozen=True)
class Walk:
    """A page to follow.

    Attributes:
        page: below the repository.
        before: commands of other pages that this one takes for granted.
        alternatives: each command is one of several ways, so the output of the one before goes first.
    """

    page: str
    before: tuple[str, ...] = ()
    alternatives: bool = False


@dataclass
class Walker:
    """Types commands in a folder, as `read_as` reads them; servers run until `end`."""

    folder: Path
    read_as: Callable[[str], str] = lambda command: command
    _servers: dict[str, ExitStack] = field(default_factory=dict)

    def follow(self, walk: Walk) -> None:
        """Every command of the page that can be run; AssertionError with its output if one fails."""
        try:
            for command in (*walk.before, *commands_of(REPOSITORY / walk.page)):
                if reason_not_to_run(command) is None:
                    if walk.alternatives:
                        shutil.rmtree(self.folder / "labels", ignore_errors=True)
                    self._type(command)
        finally:
            for server in self._servers.values():
                server.close()

    def _type(self, command: str) -> None:
        for pattern, text in _READ_AS.items():
            command = re.sub(pattern, text, command)
        command = self.read_as(command)
        if start := next((start for start in _SERVERS if command.startswith(start)), ""):
            self._servers.pop(start, ExitStack()).close()  # a second one would need another port
            self._servers[start] = ExitStack()
            self._servers[start].enter_context(_served(command, self.folder, _SERVERS[start]))
            return
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=_environment(), capture_output=True, timeout=_COMMAND_S
        )
        said = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == 0, f"$ {command}\n{said}"
        assert not (command.startswith("curl") and '"error"' in said and "README.md" not in command), said
        self._what_people_do(command)

    def _what_people_do(self, command: str) -> None:
        """Between two commands a person corrects in a tool, and the tool exports."""
        if command.endswith("--format label-studio --output tasks.json"):
            shutil.copy(self.folder / "tasks.json", self.folder / "export.json")
            submit(self.folder / "export.json", "label-studio")


@contextmanager
def _served(command: str, folder: Path, answers: str) -> Iterator[None]:
    """A server, from its first sign of life until the block ends."""
    process = subprocess.Popen(
        shlex.split(command),
        cwd=folder,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said = []
        for line in process.stdout or ():
            said.append(line)
            if answers in line:
                break
        else:
            raise AssertionError(f"$ {command}\n{''.join(said)}")
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(_SERVER_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": programs, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
