"""Every command that the documents show is one that everymask takes; what it prints as a configuration is read back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from data_jobs.runtime.command import Command, takes_file
from data_jobs.runtime.settings import Setting
from everymask_cli.main import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *(path for path in REPOSITORY.glob("*.md") if path.name != "CHANGELOG.md"),
        *(
            path
            for folder in ("docs", "cluster", "examples", "everymask")
            for path in (REPOSITORY / folder).rglob("*.md")
        ),
    ]
)
SCRIPTS = {
    row.place.split(":")[0].replace(".", "/") + ".py": row.words for row in COMMANDS if row.place.endswith(":command")
}
_BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_BEGINNING = re.compile(r"^(?:\$ )?(?:ray job submit .*?-- )?(?:python (?:/app/)?(data_jobs/\w+\.py)|everymask) (.*)$")


def shown(text: str) -> Iterator[list[str]]:
    """The commands in the blocks of a page, with variables replaced."""
    variables = dict(re.findall(r'^(\w+)="(.*)"$', text, re.MULTILINE))
    for block in _BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            yield from _command(line.strip())


def _command(line: str) -> Iterator[list[str]]:
    match = _BEGINNING.match(line)
    if match:
        words = shlex.split(re.split(r"(?: > | \| | && |; )", match[2])[0], comments=True)
        yield [*SCRIPTS[match[1]].split(), *words] if match[1] else words


EVERY = [(page, words) for page in PAGES for words in shown(page.read_text(encoding="utf-8"))]


def _row(words: list[str]) -> tuple[Command[object], list[str]] | None:
    """The command behind what is typed, and what follows its words; None for the page and for lists of commands."""
    for row in COMMANDS:
        length = len(row.words.split())
        if " ".join(words[:length]) == row.words:
            command = row.load()
            return (command, words[length:]) if isinstance(command, Command) else None
    assert words[0].startswith("-") or words[0] == "ui", f"everymask {' '.join(words)} is no command"
    return None


@pytest.mark.parametrize(
    ("page", "words"), EVERY, ids=[f"{page.stem}: {' '.join(words)[:70]}" for page, words in EVERY]
)
def test_a_documented_command_is_understood(page: Path, words: list[str], tmp_path: Path) -> None:
    found = _row(words)
    if found is None:
        return
    command, rest = found
    if "--help" in rest or "--print-config" in rest:
        return
    if (place := rest.index("--config") if "--config" in rest else -1) >= 0 and takes_file(command.config):
        rest[place + 1] = str(tmp_path / "settings.yaml")
        (tmp_path / "settings.yaml").write_text(command.print_config(["--input", "in", "--output", "out"]))
    command.parse(rest)


def test_there_are_many_and_every_command_is_named_somewhere() -> None:
    assert len(EVERY) >= 30
    texts = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [row.words for row in COMMANDS if f"everymask {row.words}" not in texts] == []


def choice(setting: Setting) -> str | None:
    """The first of the values that a setting may have, where they are listed."""
    return get_args(setting.kind)[0] if get_origin(setting.kind) is Literal else None


@pytest.mark.parametrize("words", [row.words for row in COMMANDS if row.words not in ("ui", "serve")])
def test_the_configuration_of_every_command_is_read_back(words: str, tmp_path: Path) -> None:
    (command,) = [row.load() for row in COMMANDS if row.words == words]
    assert isinstance(command, Command)
    given = [f"{setting.option}={choice(setting) or f'{setting.path}.safetensors'}" for setting in command.required]
    # Which of these is given is up to the user; one must be.
    given += {"train classes": ["--exemplars=pictures"], "evaluate classes": ["--names=cat,dog"]}.get(words, [])
    file = tmp_path / "settings.yaml"
    if given:
        assert command.print_config([]), "it can be printed before anything is chosen"
    file.write_text(command.print_config(given))
    assert command.parse(["--config", str(file)]) == command.parse(given)
