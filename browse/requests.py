"""The page's requests as records; invalid input becomes one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from browse.collection import Wish
from browse.query import Query, Range
from everymask.errors import ConfigurationError, InputError
from everymask.files.json_text import parse_json
from everymask.masks.checked import rle_from_text
from everymask.review.steps import STEP_ACTIONS, Step
from ui.client import Prompt

_RANGES = ("score", "area", "doubt", "masks")
_WORDS = ("show", "corrected", "text", "split", "order")
_MOST_CLASSES = 200
_MOST_TEXT = 500
MOST_IMAGES_AT_ONCE = 500
_MOST_CLICKS = 100
_MOST_PIXELS = 10**9


def read_query(params: Mapping[str, str]) -> Query:
    """The query in an address's parameters, such as `class=1,2&score=0.2-0.8&show=masks`; ignores others.

    Raises:
        InputError: a value is invalid.
    """
    chosen: dict[str, Any] = {name: params[name] for name in _WORDS if params.get(name)}
    chosen |= {name: _range(name, params[name]) for name in _RANGES if params.get(name)}
    if len(chosen.get("text", "")) > _MOST_TEXT:
        raise InputError(f"text has more than {_MOST_TEXT} characters")
    if params.get("class"):
        ids = params["class"].split(",")
        if len(ids) > _MOST_CLASSES or not all(word.removeprefix("-").isdecimal() and len(word) < 7 for word in ids):
            raise InputError(f"class lists at most {_MOST_CLASSES} class ids; got {params['class'][:40]!r}")
        chosen["classes"] = tuple(sorted(map(int, ids)))
    try:
        return Query(**chosen)
    except ConfigurationError as error:
        raise InputError(str(error)) from error


def _range(name: str, text: str) -> Range:
    least, dash, most = text.partition("-")
    try:
        if not dash:
            raise ValueError
        ends = [float(end) if end else None for end in (least, most)]
        if any(end is not None and not math.isfinite(end) for end in ends):
            raise ValueError
    except ValueError:
        raise InputError(f"{name} is a range such as 0.2-0.8, 0.2- or -0.8; got {text[:40]!r}") from None
    return Range(*ends)


def read_number(params: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A whole number from 0 to `most`; otherwise InputError."""
    text = params.get(name, str(default))
    number = whole_number(text)
    if number is None or number > most:
        raise InputError(f"{name} is a whole number up to {most:,}; got {text[:40]!r}")
    return number


def whole_number(text: str) -> int | None:
    """A number of up to nine digits; None where the text is none."""
    return int(text) if text.isdecimal() and len(text) <= 9 else None


def read_object(body: bytes) -> dict[str, Any]:
    """A JSON object; otherwise InputError."""
    try:
        content = parse_json(body)
        json.dumps(content, ensure_ascii=False).encode()  # half a character fits into no label store
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError("the request is no JSON object")
    return content


def read_text(content: Mapping[str, Any], name: str, most: int = 4096) -> str:
    """A non-empty text; InputError if it is missing or too long."""
    value = content.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > most or not value.isprintable():
        raise InputError(f"{name} is missing, or no text of up to {most:,} characters")
    return value


def read_wish(content: Any) -> Wish:
    """The wish for one image; InputError if it is invalid."""
    if not isinstance(content, dict) or not isinstance(content.get("steps"), list) or not content["steps"]:
        raise InputError("a wish names an image, what was seen of it, and steps")
    where = content.get("where")
    if where is not None and not (isinstance(where, dict) and all(isinstance(word, str) for word in where.values())):
        raise InputError("where holds conditions on masks as text")
    return Wish(
        _image_id(content),
        tuple(_texts(content.get("seen", []), "seen")),
        tuple(_step(step) for step in content["steps"]),
        None if where is None else read_query(where),
        None if content.get("signature") is None else read_text(content, "signature", 64),
    )


def _image_id(content: Mapping[str, Any]) -> str:
    """An id as in the store, which may hold any character."""
    value = content.get("id")
    if not isinstance(value, str):
        raise InputError("id is missing")
    return value


read_image_id = _image_id


def _step(content: Any) -> Step:
    if not isinstance(content, dict) or content.get("action") not in STEP_ACTIONS:
        raise InputError(f"a step is one of {', '.join(STEP_ACTIONS)}")
    mask_ids = content.get("masks", [])
    rle = None
    if content["action"] == "add":
        size = content.get("size")
        if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
            raise InputError("a mask to add has the size of its image, [height, width]")
        rle = rle_from_text(content.get("counts"), (size[0], size[1]))
    name = content.get("class_name")
    return Step(
        content["action"],
        None if mask_ids == "all" else tuple(_texts(mask_ids, "masks")),
        name if isinstance(name, str) else None,
        rle,
        content.get("entry") if isinstance(content.get("entry"), str) else None,
    )


def _texts(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise InputError(f"{name} is a list of ids")
    return value


def read_prompt(content: Mapping[str, Any]) -> Prompt:
    """Clicks in image pixels; InputError if they are invalid."""
    points, labels = content.get("points"), content.get("labels")
    if not (
        isinstance(points, list)
        and isinstance(labels, list)
        and 0 < len(points) == len(labels) <= _MOST_CLICKS
        and all(isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in points)
        and all(label in (0, 1) for label in labels)
    ):
        raise InputError(f"points are up to {_MOST_CLICKS} pairs of x and y, with as many labels of 0 or 1")
    return Prompt(points, labels, None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MOST_PIXELS
