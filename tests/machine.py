"""What the machine must have for some tests: said before the suite runs, and counted after it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
_REASON = "missing tool: "


@dataclass(frozen=True)
class Tool:
    """Something that tests need and pip does not bring.

    Attributes:
        name: what it is.
        tests: which tests are skipped without it.
        command: what installs it.
        found: whether it is here.
    """

    name: str
    tests: str
    command: str
    found: Callable[[], bool]


def readers_folder() -> Path:
    """Where `make readers` puts the environments of tools that read exports."""
    return Path(os.environ.get("EVERYMASK_READERS", REPOSITORY / ".readers"))


BUILDERS = ("debootstrap", "ip", "mount", "nsenter", "unshare")
IMAGE_TOOLS = Tool(
    "debootstrap, iproute2 or util-linux",
    "the container image",
    "make image-tools",
    lambda: all(shutil.which(name) for name in BUILDERS),
)
READERS = Tool(
    "readers of exports",
    "exports read by the tools they are for, and labelling tools as clients",
    "make readers",
    lambda: all((readers_folder() / name / "bin/python").is_file() for name in ("datasets", "tools")),
)
SLURM = Tool(
    "Slurm",
    "the batch script of a Slurm cluster",
    "make slurm",
    lambda: all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch")),
)
PROMETHEUS = Tool(
    "Prometheus",
    "the dashboard and the alerts, on a real job and a real service",
    "make prometheus",
    lambda: all(shutil.which(name) for name in ("prometheus", "promtool")),
)
SLOW = (IMAGE_TOOLS, READERS, SLURM, PROMETHEUS)
EVERY_TOOL = "make slow-tools"
"""The one command that installs them all, as far as the user may."""


def reason_without(tool: Tool) -> str:
    """Why a test is skipped; the closing note counts it."""
    return f"{_REASON}{tool.name}; install with: {tool.command}"


def skip_without(tool: Tool) -> NoReturn:
    """Skip the test."""
    pytest.skip(reason_without(tool))


def announced(tools: tuple[Tool, ...]) -> list[str]:
    """A line for every tool that is missing, and one that says how to get them."""
    lines = [f"will be skipped for want of {tool.name}: {tool.tests}" for tool in tools if not tool.found()]
    return [*lines, f"to run them, as root: {EVERY_TOOL}"] if lines else []


def is_for_want_of_a_tool(reason: str) -> bool:
    """Whether a skip's reason is one of `reason_without`."""
    return _REASON in reason
