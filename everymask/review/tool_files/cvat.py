"""CVAT for images 1.1: every image of the file."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

from everymask.errors import InputError
from everymask.formats.cvat import ID_ATTRIBUTE
from everymask.masks.checked import check_class_name, checked_size, rle_from_box_runs
from everymask.review.reviewed import (
    RefusedImage,
    ReviewedImage,
    ReviewedMask,
    box_ring,
    ellipse_ring,
    polygon_mask,
)
from everymask.review.tool_files.fields import read_file

_MAX_DEPTH = 20
_SHAPES = frozenset({"mask", "polygon", "box", "ellipse"})


def read_cvat(path: Path) -> list[ReviewedImage | RefusedImage]:
    """Every image of a file. Boxes and ellipses become masks that say so.

    Raises:
        InputError: the file is damaged, declares a document type, or holds the tracks of a video.
    """
    root = _read_xml(path)
    tracks = sorted({track.get("label", "") for track in root.iter("track")})
    if tracks:
        raise InputError(
            f"{path} holds tracks of a video ({', '.join(tracks)[:200]}), which no images are; export the task as "
            '"CVAT for images 1.1"'
        )
    found: list[ReviewedImage | RefusedImage] = []
    for image in root.iter("image"):
        name = image.get("name", "")
        ignored: Counter[str] = Counter()
        try:
            size_hw = checked_size(_whole(image, "height"), _whole(image, "width"))
            masks = []
            for element in image:
                if element.tag in _SHAPES:
                    masks.append(_mask(element, size_hw))
                else:
                    ignored[element.tag[:40]] += 1
            found.append(ReviewedImage(name, None, size_hw, tuple(masks), ignored=ignored))
        except InputError as error:
            found.append(RefusedImage(name, f"image {name!a} of {path} cannot be read: {error}"))
    return found


class _PlainTree(ET.TreeBuilder):
    """Builds a tree, refusing document types and deep nesting.

    Definitions of a document type may expand into gigabytes; the parser reports one before reading it, in any encoding.
    """

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def doctype(self, *_: object) -> None:
        raise InputError("it declares a document type, which CVAT never writes; it is not read")

    def start(self, tag: str, attrs: dict[Any, Any], /) -> ET.Element:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise InputError(f"its elements lie more than {_MAX_DEPTH} deep, which CVAT's never do; it is not read")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ET.Element:
        self._depth -= 1
        return super().end(tag)


def _read_xml(path: Path) -> ET.Element:
    parser = ET.XMLParser(target=_PlainTree())
    try:
        parser.feed(read_file(path))
        root: ET.Element = parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path} is not complete XML ({error}); export it again from CVAT") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return root


def _mask(element: ET.Element, size_hw: tuple[int, int]) -> ReviewedMask:
    mask_id = next((one.text for one in element.iter("attribute") if one.get("name") == ID_ATTRIBUTE), None)
    label = element.get("label")
    check_class_name(label)
    assert label is not None
    if element.tag == "mask":
        runs = _numbers(element, "rle", ",", int)
        corner = int(_number(element, "left")), int(_number(element, "top"))
        box_hw = _whole(element, "height"), _whole(element, "width")
        return ReviewedMask(rle_from_box_runs(runs, box_hw, corner, size_hw), label, mask_id)
    degrees = _number(element, "rotation") if "rotation" in element.attrib else 0.0
    if element.tag == "box":
        x0, y0, x1, y1 = (_number(element, name) for name in ("xtl", "ytl", "xbr", "ybr"))
        return polygon_mask([box_ring((x0, y0, x1, y1), degrees)], label, mask_id, size_hw, "box")
    if element.tag == "ellipse":
        x, y, radius_x, radius_y = (_number(element, name) for name in ("cx", "cy", "rx", "ry"))
        ring = ellipse_ring((x, y), (radius_x, radius_y), degrees)
        return polygon_mask([ring], label, mask_id, size_hw, "ellipse")
    points = element.get("points", "").replace(";", ",")
    return polygon_mask([_numbers(ET.Element("polygon", points=points), "points", ",", float)], label, mask_id, size_hw)


def _whole(element: ET.Element, name: str) -> int:
    return int(_numbers(element, name, None, int)[0])


def _number(element: ET.Element, name: str) -> float:
    """A finite number below 1e9."""
    value = float(_numbers(element, name, None, float)[0])
    if not abs(value) < 1e9:
        raise InputError(f"a <{element.tag}> has {name}={element.get(name, '')[:40]!a}, which lies in no image")
    return value


def _numbers(element: ET.Element, name: str, separator: str | None, kind: type) -> list[Any]:
    """An attribute as a list of numbers; as one number if there is no separator."""
    written = element.get(name, "")
    try:
        return [kind(one) for one in (written.split(separator) if separator else [written])]
    except (ValueError, OverflowError):
        raise InputError(f"a <{element.tag}> has {name}={written[:40]!a}, which is no number") from None
