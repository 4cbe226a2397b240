"""Exemplars from a directory per class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from everymask.classes.exemplars.manifest import Origin, walk_class_folders
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError


def class_folder_pictures(directory: str | Path, taxonomy: Taxonomy) -> Iterator[tuple[Origin, bytes]]:
    """Every picture of the subjects in `taxonomy`, with its encoded bytes, in a fixed order.

    Raises:
        ConfigurationError: the directory is missing, or holds no picture of a subject.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder}; --input names one with a directory per class")
    files: dict[str, list[Path]] = {subject: [] for subject, _ in taxonomy.subjects}
    for subject, path in walk_class_folders(folder):
        if subject in files:
            files[subject].append(path)
    empty = [subject for subject, paths in files.items() if not paths]
    if empty:
        raise ConfigurationError(f"{folder} has no directory of pictures for {', '.join(empty)}; add one per class")
    for subject, paths in files.items():
        for path in paths:
            yield Origin(subject, "folder", url=str(path.absolute())), path.read_bytes()
