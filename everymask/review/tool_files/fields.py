"""Checked access to annotation tools' files and fields."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

from everymask.errors import InputError
from everymask.files.json_text import parse_json
from everymask.masks.checked import check_class_name, checked_size

MAX_FILE_BYTES = 2**31


def read_file(path: Path) -> bytes:
    """The bytes of a file; InputError if it is unreadable, too large or an archive."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path} has more than {MAX_FILE_BYTES:,} bytes; import it in parts")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from error
    if data[:4] == b"PK\x03\x04":
        raise InputError(f"{path} is a ZIP archive; unpack it and import what is in it")
    return data


def read_json(path: Path) -> Any:
    """The content of a JSON file; InputError if it is unreadable, too large or not complete JSON."""
    data = read_file(path)
    try:
        return parse_json(data)
    except ValueError as error:
        raise InputError(f"{path} is not complete JSON ({error}); export it again from the tool") from error


def json_files(path: Path) -> list[Path]:
    """A file, or every .json file below a folder, in order; InputError if there is none."""
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*.json")) if file.name[0] != "."]
    if not files:
        raise InputError(f"{path} holds no .json file; give the folder that the tool has written to")
    return files


def objects(content: Any, name: str) -> list[dict[str, Any]]:
    """A field that holds a list of JSON objects; InputError if it does not."""
    values = content.get(name) if isinstance(content, dict) else None
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise InputError(f"it has no proper {name!r}, a list; export it again from the tool, or give its --format")
    return values


def an_object(content: dict[str, Any], name: str) -> dict[str, Any]:
    """A field that holds a JSON object, {} if missing; InputError if it holds something else."""
    value = content.get(name)
    if value is not None and not isinstance(value, dict):
        raise InputError(f"its {name!r} is no JSON object; export it again from the tool")
    return value or {}


def text(content: dict[str, Any], name: str) -> str | None:
    """A field as text; None if it is missing or neither text nor a number."""
    value = content.get(name)
    return str(value) if isinstance(value, (str, int)) and value != "" else None


def key(content: dict[str, Any], name: str) -> str | int:
    """A field by which other objects refer to this one; InputError if it is neither number nor text."""
    value = content.get(name)
    if not isinstance(value, (int, str)):
        raise InputError(f"it has no proper {name!r}; export it again from the tool")
    return value


def class_name(content: dict[str, Any], name: str) -> str:
    """A field as a class name; InputError if it is not one."""
    value = content.get(name)
    check_class_name(value)
    return str(value)


def size(content: dict[str, Any], height: str, width: str) -> tuple[int, int]:
    """Two fields as an image's (height, width); InputError if they are not."""
    return checked_size(content.get(height), content.get(width))


def tolerance_px(content: dict[str, Any], name: str) -> float:
    """The tolerance with which polygons were exported; 0 if missing or invalid."""
    try:
        value = float(content.get(name) or 0.0)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return value if isfinite(value) and value > 0 else 0.0


def ring(points: Any) -> list[float]:
    """[x0, y0, x1, y1, …] from a list of [x, y]; InputError if it is not one."""
    try:
        return [float(value) for x, y in points for value in (x, y)]
    except (TypeError, ValueError, OverflowError):
        raise InputError("a polygon is no list of [x, y]; redraw it") from None
