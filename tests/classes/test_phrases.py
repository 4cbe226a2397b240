from __future__ import annotations

from pathlib import Path

import pytest

from everymask.classes.config import ConceptsConfig
from everymask.classes.phrases import Phrases, read_phrases
from everymask.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("cat,yellow school bus", Phrases(("cat", "yellow school bus"), {})),
        ("animals=cat+dog,bus", Phrases(("cat", "dog", "bus"), {"cat": "animals", "dog": "animals"})),
        ("cat,-toy cat,background", Phrases(("cat",), {}, ("toy cat", "background"))),
    ],
)
def test_phrases_are_read_from_a_line(text: str, phrases: Phrases) -> None:
    assert read_phrases(text) == phrases


def test_phrases_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("# what we drive\nbus: yellow school bus, double decker, -toy bus\n\ncar\n")
    assert read_phrases(str(file)) == Phrases(
        ("yellow school bus", "double decker", "car"),
        {"yellow school bus": "bus", "double decker": "bus"},
        ("toy bus",),
    )
    with pytest.raises(ConfigurationError, match=r"missing.txt cannot be read .*write `class: phrase` lines"):
        read_phrases(str(tmp_path / "missing.txt"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cat,,dog", "one of the names is empty; write a word"),
        ("", "one of the names is empty"),
        ("School Bus,school  bus", "'School Bus' and 'school  bus' are the same but for case and spaces"),
        ("cat,-Cat", "'cat' and 'Cat' are the same"),
        ("-cat", "no class is named"),
    ],
)
def test_names_of_no_use_are_one_sentence(text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        read_phrases(text)


def test_classes_are_numbered_by_their_first_phrase() -> None:
    config = ConceptsConfig(("cat", "bus", "dog"), {"cat": "animals", "dog": "animals"})
    assert config.class_names == ("animals", "bus")
    with pytest.raises(ConfigurationError, match="cow is given a class, but is not among the names"):
        ConceptsConfig(("cat",), {"cow": "animals"})
