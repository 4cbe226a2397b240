"""The small reader of Dockerfiles and of their `.dockerignore`, which the image's test builds on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.image.context import Ignored, copy_context
from tests.cluster.image.dockerfile import assignments, expand, options, parse

REPOSITORY = Path(__file__).resolve().parents[2]


def test_continued_lines_are_one_step_and_stages_are_apart() -> None:
    first, second = parse(
        "# a\nARG A=1\nFROM x AS one\nRUN a \\\n    # said between\n    && b\nFROM one AS two\nUSER 1:1\n"
    )
    assert (first.name, first.steps) == ("one", [("RUN", "a && b")])
    assert (second.base, second.arguments("USER")) == ("one", ["1:1"])
    with pytest.raises(ValueError, match="RUNN"):
        parse("FROM x\nRUNN a")


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$A/b", "1/b"),
        ("${A}b", "1b"),
        ("${NO}b", "b"),
        ("${NO:-x}", "x"),
        ("${A:-x}", "1"),
        ("${A:+x}", "x"),
        ("${NO:+x}", ""),
    ],
)
def test_variables_are_expanded(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


def test_assignments_know_what_held_before_them_and_options_come_first() -> None:
    assert assignments('A="two words" B=$A', {"A": "1"}) == {"A": "two words", "B": "1"}
    assert options("--mount=type=cache,target=/x --chown=1:1 run --this=not") == (
        {"mount": "type=cache,target=/x", "chown": "1:1"},
        "run --this=not",
    )


def test_the_context_holds_what_is_let_in_and_nothing_else(tmp_path: Path) -> None:
    for name in ("secret.env", "serve/app.py", "serve/__pycache__/app.pyc", ".git/config", "ui/a/b.py", "README.md"):
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_text(name)
    ignored = Ignored((REPOSITORY / "cluster" / "Dockerfile.dockerignore").read_text())
    copy_context(tmp_path / "from", ignored, tmp_path / "to")
    there = {str(path.relative_to(tmp_path / "to")) for path in (tmp_path / "to").rglob("*") if path.is_file()}
    assert there == {"serve/app.py", "ui/a/b.py", "README.md"}
