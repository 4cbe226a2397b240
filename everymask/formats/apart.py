"""Keeps an export's pictures out of the folder in which the next run looks for images."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from everymask.errors import ConfigurationError
from everymask.files.storage import canonical_uri, is_remote, split_query
from everymask.labels.store import LabelStore
from everymask.redaction import redact

_WILDCARD = re.compile(r"[*?\[]")


def check_apart(store: LabelStore, output: str, pictures: str) -> None:
    """ConfigurationError if a run with the store's input would look for images where an export puts pictures.

    Args:
        store: the label store, whose run recorded its input.
        output: of the export, for the message.
        pictures: the folder that will hold the pictures.
    """
    recorded = store.configuration().get("input")
    if isinstance(recorded, str) and any(_is_listed(recorded, place) for place in _names_of(pictures)):
        raise ConfigurationError(
            f"--output {redact(output)} would put pictures into {redact(recorded)}, the input of these labels, where "
            "the next run would take them for yours; choose a folder outside of it"
        )


def _names_of(place: str) -> set[str]:
    """An absolute address, and for a local one also that which its links lead to."""
    named = split_query(canonical_uri(place))[0] if is_remote(place) else canonical_uri(place)
    return {named} if is_remote(place) else {named, os.path.realpath(named)}


def _is_listed(recorded: str, place: str) -> bool:
    """Whether files below `place` belong to an input: a folder, or a glob."""
    for root in _names_of(recorded):
        if (below := _below(root, place)) is not None:
            return not _is_hidden(below)
        wildcard = _WILDCARD.search(root)
        folder = "" if wildcard is None else root[: wildcard.start()].rpartition("/")[0]
        if folder and (below := _below(folder, place)) is not None:
            return _reaches(root[len(folder) + 1 :].split("/"), below)
    return False


def _below(root: str, place: str) -> tuple[str, ...] | None:
    """The names that lead from a folder to a place inside it; None if it is not inside."""
    path, folder = PurePosixPath(place), PurePosixPath(root)
    return path.relative_to(folder).parts if path.is_relative_to(folder) else None


def _is_hidden(below: tuple[str, ...]) -> bool:
    return any(name.startswith(".") for name in below)


def _reaches(pattern: list[str], below: tuple[str, ...]) -> bool:
    """Whether a glob may match files in a folder, or deeper."""
    if _is_hidden(below):
        return False
    for number, name in enumerate(below):
        if number >= len(pattern) - 1 or "**" in pattern[number]:
            return "**" in pattern[min(number, len(pattern) - 1)]
        if not fnmatchcase(name, pattern[number]):
            return False
    return True
