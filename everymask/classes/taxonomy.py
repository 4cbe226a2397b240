"""The user's classes: names, or names that gather several subjects (changed granularity, section 4 of the paper)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from everymask.errors import ConfigurationError, InputError
from everymask.masks.checked import check_class_name


@dataclass(frozen=True)
class Taxonomy:
    """Which subjects are pictured, and which class each belongs to.

    Attributes:
        subjects: (subject, class) pairs; a subject is what a prompt or a query asks for.
    """

    subjects: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        if not self.subjects:
            raise ConfigurationError("no class is named; name at least one, e.g. --classes cat,dog")
        _refuse_repeated([subject for subject, _ in self.subjects], "the classes")
        for name in {part for pair in self.subjects for part in pair}:
            if not name or name != name.strip() or "/" in name or "\\" in name or name.startswith("."):
                raise ConfigurationError(f"class {name!r} cannot be used; a name is not empty and names no folder")
            try:
                check_class_name(name)
            except InputError as error:
                raise ConfigurationError(str(error)) from error

    @property
    def classes(self) -> tuple[str, ...]:
        """C class names in the order of their first mention; class_id is the index."""
        return tuple(dict.fromkeys(name for _, name in self.subjects))

    @property
    def class_of(self) -> Mapping[str, str]:
        """The class of each subject."""
        return dict(self.subjects)

    @classmethod
    def parse(cls, text: str) -> Taxonomy:
        """Read `cat,dog`, `animals=bird+cat+dog,person`, or a JSON file of {subject: class}.

        Raises:
            ConfigurationError: no class, one named twice, or a file that is no such mapping.
        """
        if text.endswith(".json"):
            return cls(tuple(_read_mapping(Path(text)).items()))
        subjects: list[tuple[str, str]] = []
        names: list[str] = []
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, separator, members = (part.strip() for part in item.partition("="))
            names.append(name)
            subjects += [(member.strip(), name) for member in members.split("+")] if separator else [(name, name)]
        _refuse_repeated(names, "the classes")
        return cls(tuple(subjects))


def _refuse_repeated(names: Sequence[str], place: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"{', '.join(twice)} is named twice in {place}; name every one once")


def _read_mapping(path: Path) -> dict[str, str]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        _refuse_repeated([name for name, _ in pairs], str(path))
        return dict(pairs)

    try:
        content = json.loads(path.read_text(), object_pairs_hook=unique)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"the classes in {path} cannot be read ({error}); write a JSON object") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        raise ConfigurationError(f"{path} must hold a JSON object of {{subject: class}}, both strings")
    return {subject: str(name) for subject, name in content.items()}
