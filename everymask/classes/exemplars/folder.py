"""Pictures from folders: exemplars from a directory per class, and pictures without a class."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Set
from pathlib import Path

from everymask.classes.exemplars.manifest import Exemplar, Origin, walk_class_folders
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from everymask.images.decoding import IMAGE_SUFFIXES


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


def picture_files(directory: str | Path, option: str) -> list[str]:
    """Paths of the pictures in a folder and its subfolders, sorted; not hidden ones.

    Raises ConfigurationError if the folder, named by `option`, is missing or holds no picture.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder}; {option} names one with pictures")
    files = sorted(
        file.relative_to(folder)
        for file in folder.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    if not files:
        raise ConfigurationError(f"{folder} holds no picture; {option} names a folder with some")
    return [file.as_posix() for file in files]


def folder_pictures(
    directory: str | Path, option: str, most: int | None = None, always: Set[str] = frozenset()
) -> list[Exemplar]:
    """The pictures of a folder and its subfolders, without a class, by path; not hidden ones.

    Args:
        directory: the folder.
        option: the option that names it, for errors.
        most: at most this many, drawn at random but always the same; None takes all.
        always: paths that are taken first, and do not count.

    Raises:
        ConfigurationError: the folder is missing, or holds no picture.
    """
    files = picture_files(directory, option)
    others = [file for file in files if file not in always]
    if most is not None and len(others) > most:
        drawn = set(random.Random(0).sample(others, most)) | always
        files = [file for file in files if file in drawn]
    paths = [Path(directory) / file for file in files]
    return [
        Exemplar(file, "", hashlib.sha256(path.read_bytes()).hexdigest(), "", Origin("", "folder", url=str(path)))
        for file, path in zip(files, paths, strict=True)
    ]
