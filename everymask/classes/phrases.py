"""Phrases for a model that reads words: several may mean one class, and some only compete with the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from everymask.classes.config import check_phrases
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError

BACKGROUND = "background"
"""A name whose masks are compared like all others, and never labelled."""


@dataclass(frozen=True)
class Phrases:
    """The phrases for a model.

    Attributes:
        names: phrases whose masks are labelled.
        classes: the class of each phrase that is not a class by itself.
        negatives: phrases whose masks only compete.
    """

    names: tuple[str, ...]
    classes: Mapping[str, str]
    negatives: tuple[str, ...] = ()


def read_phrases(text: str) -> Phrases:
    """`parse_phrases` of `cat,dog`; or read a JSON file of {phrase: class}, or a text file of `class: phrase, -phrase`.

    In a text file, a line without a colon is a class and its only phrase; one that begins with # is a comment.

    Raises:
        ConfigurationError: as `parse_phrases`, or a file that cannot be read.
    """
    if text.endswith(".txt"):
        return _phrases(*_read_lines(Path(text)))
    if text.endswith(".json"):
        return _phrases(Taxonomy.parse(text).subjects, ())
    return parse_phrases(text.split(","))


def parse_phrases(items: Sequence[str]) -> Phrases:
    """What `cat`, `animals=cat+dog` and `-toy dog` ask for; opens no file.

    A phrase after a minus competes with all names and is never labelled; so is `background`.

    Raises:
        ConfigurationError: no name, an empty one, or two that are the same.
    """
    subjects: list[tuple[str, str]] = []
    negatives: list[str] = []
    for item in map(str.strip, items):
        name, several, members = (part.strip() for part in item.partition("="))
        if item.startswith("-"):
            negatives.append(item[1:].strip())
        else:
            subjects += [(member.strip(), name) for member in members.split("+")] if several else [(name, name)]
    return _phrases(subjects, negatives)


def _phrases(subjects: Iterable[tuple[str, str]], negatives: Iterable[str]) -> Phrases:
    subjects = list(subjects)
    labelled = [(phrase, name) for phrase, name in subjects if BACKGROUND not in (phrase, name)]
    others = [*negatives, *(phrase for phrase, name in subjects if BACKGROUND in (phrase, name))]
    check_phrases([*(phrase for phrase, _ in labelled), *others])
    taxonomy = Taxonomy(tuple(labelled))
    return Phrases(
        tuple(phrase for phrase, _ in taxonomy.subjects),
        {phrase: name for phrase, name in taxonomy.subjects if phrase != name},
        tuple(others),
    )


def _read_lines(path: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """(phrase, class) pairs, and negatives."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the names in {path} cannot be read ({error}); write `class: phrase` lines"
        ) from error
    subjects: list[tuple[str, str]] = []
    negatives: list[str] = []
    for line in filter(None, (line.strip() for line in lines)):
        if line.startswith("#"):
            continue
        name, colon, rest = (part.strip() for part in line.partition(":"))
        for phrase in (part.strip() for part in (rest if colon else name).split(",")):
            if phrase.startswith("-"):
                negatives.append(phrase[1:].strip())
            else:
                subjects.append((phrase, name))
    return subjects, negatives
