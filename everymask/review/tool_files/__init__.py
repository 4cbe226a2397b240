"""Readers of annotation tools' files, one module for each format that corrections can come in.

Each reads its file or folder completely before it answers, so nothing is half read. An image that cannot be read
becomes a `RefusedImage`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from everymask.errors import ConfigurationError, InputError
from everymask.review.reviewed import EditingFormat, RefusedImage, ReviewedImage
from everymask.review.tool_files.coco import read_coco
from everymask.review.tool_files.cvat import read_cvat
from everymask.review.tool_files.fields import json_files, read_json
from everymask.review.tool_files.label_studio import read_label_studio
from everymask.review.tool_files.labelme import read_labelme
from everymask.review.tool_files.x_anylabeling import read_x_anylabeling

__all__ = [
    "READERS",
    "guess_format",
    "read_coco",
    "read_cvat",
    "read_label_studio",
    "read_labelme",
    "read_reviewed",
    "read_x_anylabeling",
]

READERS: dict[EditingFormat, Callable[[Path], list[ReviewedImage | RefusedImage]]] = {
    "label-studio": read_label_studio,
    "x-anylabeling": read_x_anylabeling,
    "labelme": read_labelme,
    "cvat": read_cvat,
    "coco": read_coco,
}


def read_reviewed(path: Path, kind: EditingFormat) -> list[ReviewedImage | RefusedImage]:
    """Every image that a person finished, and every one that cannot be read.

    Raises:
        InputError: the file as a whole is damaged, or of another format.
    """
    _check_there(path)
    return READERS[kind](path)


def guess_format(path: Path) -> EditingFormat:
    """Guess the format of a tool's file or folder.

    Raises InputError if it is missing or unreadable, and ConfigurationError if no format matches.
    """
    _check_there(path)
    if path.suffix.lower() == ".xml":
        return "cvat"
    content = read_json(json_files(path)[0])
    if isinstance(content, list):
        return "label-studio"
    if isinstance(content, dict) and "annotations" in content and "images" in content:
        return "coco"
    if isinstance(content, dict) and "shapes" in content:
        return "x-anylabeling" if "checked" in content else "labelme"
    raise ConfigurationError(
        f"{path} looks like no format that corrections are read from; give its --format: {', '.join(READERS)}"
    )


def _check_there(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path} is not there; give the file or folder that the tool has written")
