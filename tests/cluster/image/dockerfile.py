"""A small reader of Dockerfiles: instructions with their continuation lines joined, grouped by stage."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

INSTRUCTIONS = {"ARG", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "LABEL", "RUN", "USER", "WORKDIR", "CMD"}
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([+-])([^}]*))?\})")
_OPTION = re.compile(r"--([\w-]+)=(\S+)\s+")


@dataclass
class Stage:
    """One `FROM … AS name` and what follows it, in order, as (instruction, arguments)."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def arguments(self, instruction: str) -> list[str]:
        return [arguments for name, arguments in self.steps if name == instruction]


def parse(text: str) -> list[Stage]:
    """The stages of a Dockerfile.

    Raises:
        ValueError: a line is no instruction of `INSTRUCTIONS`.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for statement in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        instruction, _, arguments = statement.partition(" ")
        if instruction not in INSTRUCTIONS:
            raise ValueError(f"not an instruction: {statement!r}")
        if instruction == "FROM":
            base, _, name = arguments.partition(" AS ")
            stages.append(Stage(base, name))
        elif stages:
            stages[-1].steps.append((instruction, arguments))
    return stages


def options(arguments: str) -> tuple[dict[str, str], str]:
    """The leading `--name=value` of an instruction's arguments, and the rest."""
    found: dict[str, str] = {}
    while match := _OPTION.match(arguments):
        found[match[1]] = match[2]
        arguments = arguments[match.end() :]
    return found, arguments


def assignments(arguments: str, variables: Mapping[str, str]) -> dict[str, str]:
    """`NAME=value …` of ENV or ARG; all values are expanded by what held before the instruction."""
    pairs = (entry.partition("=") for entry in shlex.split(arguments))
    return {name: expand(value, variables) for name, _, value in pairs}


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$NAME`, `${NAME}`, `${NAME:-instead}` and `${NAME:+if set}`, replaced."""

    def value(match: re.Match[str]) -> str:
        found = variables.get(match[1] or match[2], "")
        if match[3] == "+":
            return match[4] if found else ""
        return found or match[4] or ""

    return _VARIABLE.sub(value, text)
