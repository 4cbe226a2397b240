"""Environments of the readers that do not fit this one."""

from __future__ import annotations

from pathlib import Path

from tests.machine import READERS, readers_folder, skip_without


def python_of(environment: str) -> Path:
    """The interpreter of one of the readers' environments, or a skip that says how to make it."""
    python = readers_folder() / environment / "bin" / "python"
    if not python.is_file():
        skip_without(READERS)
    return python
