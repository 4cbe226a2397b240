"""Which processes a command or a machine leaves behind, wherever they have moved."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_ENDED = "ZX"


@dataclass(frozen=True)
class Process:
    """A process: its parent, its group, one letter for its state as `ps` has it, and its command."""

    pid: int
    parent: int
    group: int
    state: str
    command: str


def processes() -> Iterator[Process]:
    """Every process of this machine, those that have ended and were not asked after among them."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent, group, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
                yield Process(int(entry.name), int(parent), int(group), state, command)


def running_in(group: int) -> list[str]:
    """Commands that run in a process group."""
    return [found.command for found in processes() if found.group == group and found.state not in _ENDED]


class Descendants:
    """The processes that this one has started, and what those have started, since `descendants` began."""

    def __init__(self) -> None:
        self._before = {found.pid for found in below(os.getpid())}

    def running(self) -> list[str]:
        """The commands of those that run."""
        found = list(below(os.getpid()))
        return [one.command for one in found if one.pid not in self._before and one.state not in _ENDED]

    def forget_ended(self) -> None:
        for one in below(os.getpid()):
            if one.pid not in self._before and one.parent == os.getpid() and one.state in _ENDED:
                with suppress(ChildProcessError):
                    os.waitpid(one.pid, os.WNOHANG)


@contextmanager
def descendants() -> Iterator[Descendants]:
    """What is started inside the block. A process whose parent dies becomes this one's child, so none gets away."""
    _adopt(True)
    found = Descendants()
    try:
        yield found
    finally:
        found.forget_ended()
        _adopt(False)


def _adopt(orphans: bool) -> None:
    assert ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(orphans), 0, 0, 0) == 0


def below(pid: int) -> Iterator[Process]:
    """The processes that a process has started, and what those have started."""
    children: dict[int, list[Process]] = {}
    for found in processes():
        children.setdefault(found.parent, []).append(found)
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            yield child
            waiting.append(child.pid)
