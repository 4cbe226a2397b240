"""Checked reading of COCO JSON: other people's files lack fields and name missing images."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from everymask.errors import ConfigurationError, InputError
from everymask.files.json_text import parse_json
from everymask.masks.checked import rle_from_coco
from everymask.records import Rle

logger = logging.getLogger(__name__)


def coco_content(folder: Path, kind: str) -> dict[str, Any]:
    """A folder's `KIND.json`; ConfigurationError if it is missing or not a JSON object."""
    path = folder / f"{kind}.json"
    if not path.is_file():
        raise ConfigurationError(f"{folder} holds no {kind}.json; give the folder of COCO {kind} annotations")
    return json_object(path)


def json_object(path: Path) -> dict[str, Any]:
    """A file's JSON object; ConfigurationError if it is unreadable or something else."""
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is no complete JSON ({error}); restore it") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} is no COCO file: it holds no JSON object")
    return content


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Name the file in errors while its annotations are read.

    Raises ConfigurationError if a field is missing or has the wrong type.
    """
    try:
        yield
    except KeyError as error:
        raise ConfigurationError(f"{path} is no complete COCO file: something in it has no {error}") from error
    except (TypeError, ValueError, AttributeError, OverflowError, InputError) as error:
        raise ConfigurationError(f"{path} is no complete COCO file: {error}") from error


def annotations_of(path: Path, content: Any, images: Collection[Any]) -> list[Any]:
    """The annotations of known images; warns of others."""
    found = [annotation for annotation in content["annotations"] if annotation["image_id"] in images]
    strays = len(content["annotations"]) - len(found)
    if strays:
        logger.warning("%s: %d annotations belong to none of its images and are left out", path, strays)
    return found


def annotated_rle(annotation: Any, size_hw: tuple[int, int]) -> Rle:
    """The mask of an annotation; InputError if it has none of `size_hw`."""
    try:
        return rle_from_coco(annotation["segmentation"], size_hw)
    except InputError as error:
        raise InputError(f"annotation {annotation.get('id')}: {error}") from error
