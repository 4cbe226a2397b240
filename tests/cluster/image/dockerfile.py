"""A small reader of Dockerfiles: instructions with their continuation lines joined, grouped by stage."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

INSTRUCTIONS = {"ARG", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "LABEL", "RUN", "USER", "WORKDIR", "CMD"}


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
