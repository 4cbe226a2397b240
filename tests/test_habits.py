"""Tests wait for what they look at, and for no guessed time."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SLOW_ON_PURPOSE = {"tests/cluster/faulty/faulty_storage.py"}
"""A storage that takes its time, so that something can happen meanwhile."""
CPU_LIMITED = {"tests/images_under_limits.py"}
"""Damaged files that must not cost a reader much: what is bounded is the processor's time, not the clock's."""
CLOCKS = {"monotonic", "perf_counter", "process_time", "time"}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((REPOSITORY / "tests").rglob("*.py")):
        yield path.relative_to(REPOSITORY).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def calls(node: ast.AST, names: set[str]) -> set[int]:
    """Lines in which a function of the modules time and asyncio is called."""
    return {
        one.lineno
        for one in ast.walk(node)
        if isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and one.func.attr in names
        and ast.unparse(one.func.value) in ("time", "asyncio")
        # asyncio.sleep(0) lets others run, and takes no time.
        and not (one.args and ast.unparse(one.args[0]) == "0")
    }


def test_whoever_sleeps_looks_again() -> None:
    guessed = {
        name: lines
        for name, tree in trees()
        if name not in SLOW_ON_PURPOSE
        and (
            lines := calls(tree, {"sleep"})
            - {line for node in ast.walk(tree) if isinstance(node, ast.While) for line in calls(node, {"sleep"})}
        )
    }
    assert guessed == {}, "look in a loop, up to a limit, instead of sleeping for a guessed time"


def test_nothing_is_held_to_a_time_that_was_measured() -> None:
    """A deadline is the one time that may be compared: `time.monotonic() < deadline`."""
    measured = {
        name: lines
        for name, tree in trees()
        if name not in CPU_LIMITED
        and (
            lines := {
                node.lineno
                for node in ast.walk(tree)
                if isinstance(node, ast.Assert)
                and any(isinstance(one, ast.BinOp) and calls(one, CLOCKS) for one in ast.walk(node.test))
            }
        )
    }
    assert measured == {}


def test_whatever_starts_something_lies_where_the_gate_looks_for_it() -> None:
    """The gate collects few folders for these parts, because collecting all takes half a minute each time."""
    lines = (REPOSITORY / "Makefile").read_text(encoding="utf-8").splitlines()
    looked = {line.split(" :=")[0]: set(line.split()) for line in lines if line.startswith(("SERVING", "CLUSTERED"))}
    for path in sorted({*(REPOSITORY / "tests").rglob("test_*.py")} - {Path(__file__)}):
        text = path.read_text(encoding="utf-8")
        folder = "/".join(path.relative_to(REPOSITORY).parts[:2])
        if "mark.serve" in text or "mark.browser" in text:
            assert folder in looked["SERVING"], path
        elif "mark.ray" in text:
            assert folder in looked["CLUSTERED"], path
