"""Facts about what a command did, for `--json`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

from data_jobs.runtime.progress import silence

QUIET, JSON = "--quiet", "--json"
_facts: dict[str, Any] = {}


def tell(**facts: Any) -> None:
    """Add facts of this run: texts, numbers, lists of them."""
    _facts.update(facts)


def told(name: str) -> Any:
    """A fact of this run that was told, or None."""
    return _facts.get(name)


def next_step(line: str) -> None:
    tell(next=line)
    print(f"next: {line}", flush=True)


def run_with(arguments: Sequence[str], command: Callable[[Sequence[str]], int], own: Sequence[str]) -> int:
    """Run a command with `--quiet` and `--json`; returns its exit code.

    `command` gets the remaining arguments; `own` names those of the two options that the command lacks itself.
    """
    asked = {option for option in own if option in arguments}
    rest = [word for word in arguments if word not in asked]
    if not asked:
        return command(rest)
    _facts.clear()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), silence():
        code = command(rest)
    if JSON in asked:
        print(json.dumps({"exit_code": code, **_facts}), file=sys.stdout, flush=True)
    return code
