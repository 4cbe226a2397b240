"""Label Studio (https://labelstud.io): JSON tasks with predictions, and the labelling configuration beside them.

A mask is a bitmask, a brush stroke, or polygons:

- `BitmaskLabels`: a PNG of the image's size, black on transparent. Exact; the tag needs `smoothing="false"`.
- `BrushLabels`: a bit stream of run lengths over the RGBA image in row-major order (rle-pack of thi.ng/umbrella).
- `PolygonLabels`: one ring for each region, in percent of the image. A ring cannot have a hole, so parts with holes are
  cut; the pieces of a mask have its id with -1, -2, … behind it.

The functions of this module also serve predictions over HTTP, one region at a time.
"""

from __future__ import annotations

import base64
import itertools
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from everymask.errors import InputError
from everymask.files.storage import is_remote
from everymask.formats.class_names import ClassNames
from everymask.formats.flat_png import bits_of_png
from everymask.formats.format import Destination, Ended, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.formats.label_studio_masks import (
    bitmask_url,
    brush_rles,
    mask_from_brush_rle,
    percent_points,
    percent_texts,
    percents_read,
    rles_of_brushes,
)
from everymask.formats.outlines import simple_polygons, simple_polygons_of
from everymask.formats.png_text import open_png
from everymask.formats.spliced_json import PLACE, spliced_json
from everymask.labels.doubt import image_doubt
from everymask.masks.checked import fill_polygons
from everymask.masks.edge_polygons import fill_edge_polygons
from everymask.masks.labelled import rle_of_copy
from everymask.masks.rle import encode_mask
from everymask.masks.runs import crop_of, crops_of
from everymask.records import LabelledMask, Rle

Kind = Literal["bitmask", "brush", "polygon"]
TAGS: dict[str, str] = {"bitmask": "BitmaskLabels", "brush": "BrushLabels", "polygon": "PolygonLabels"}
FROM_NAME, TO_NAME = "masks", "image"
_OPAQUE = 128
_BYTES = tuple(map(str, range(256)))
_Written = tuple[list[dict[str, Any]], list[str], list[Rle]]
"""An image's regions, the texts that stand at their places in JSON, and the masks that an importer makes of them."""


def labelling_config(names: Sequence[str], kind: Kind) -> str:
    """The labelling configuration (XML) for regions of `kind`, with a label for each class."""
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in names)
    smoothing = ' smoothing="false"' if kind == "bitmask" else ""
    tag = TAGS[kind]
    return (
        f'<View>\n  <Image name="{TO_NAME}" value="${TO_NAME}" zoom="true"{smoothing}/>\n'
        f'  <{tag} name="{FROM_NAME}" toName="{TO_NAME}">\n{labels}  </{tag}>\n</View>\n'
    )


def regions(mask: LabelledMask, kind: Kind, tolerance_px: float = 0.0) -> list[dict[str, Any]]:
    """One mask as regions of a prediction's `result`: one, or one for each polygon; none for an empty mask.

    The mask must have an id; `tolerance_px` is how far polygons may deviate from outlines.
    """
    if kind == "polygon":
        return _polygons(mask, percent_points(simple_polygons(mask, tolerance_px), _size(mask.rle)))
    if not mask.area:
        return []
    if kind == "brush":
        return [_brush(mask, brush_rles([mask], _size(mask.rle))[0])]
    return [_bitmask(mask, crop_of(mask.rle, mask.box_xyxy))]


def _polygons(mask: LabelledMask, rings: Sequence[Any]) -> list[dict[str, Any]]:
    """The regions of a mask's polygons, each a list of points in percent of the image."""
    pieces = [mask.mask_id, *(f"{mask.mask_id}-{number}" for number in range(1, len(rings)))]
    return [
        _region(mask, "polygon", {"points": ring, "closed": True}, piece)
        for ring, piece in zip(rings, pieces, strict=False)
    ]


def _brush(mask: LabelledMask, values: Any) -> dict[str, Any]:
    return _region(mask, "brush", {"format": "rle", "rle": values}, mask.mask_id)


def _bitmask(mask: LabelledMask, crop: NDArray[np.bool_]) -> dict[str, Any]:
    return _region(mask, "bitmask", {"imageDataURL": bitmask_url(mask, crop)}, mask.mask_id)


def read_region(region: dict[str, Any], size_hw: tuple[int, int]) -> Rle:
    """The mask of one region of a result; InputError if it is not a mask of an image of `size_hw`."""
    height, width = size_hw
    name = f"region {str(region.get('id'))[:40]}"
    if (region.get("original_height"), region.get("original_width")) != (height, width):
        raise InputError(
            f"{name} is of an image of {region.get('original_width')} x {region.get('original_height')} pixels, not "
            f"{width} x {height}"
        )
    value = region.get("value")
    try:
        if not isinstance(value, dict):
            raise ValueError("it has no value")
        if "imageDataURL" in value or "rle" in value:
            return encode_mask(_pixels(value, size_hw))
        if "points" in value:
            return fill_polygons([_corners(value["points"], size_hw)], size_hw)
    except (InputError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{name} cannot be read: {error}") from error
    raise InputError(f"{name} is a {region.get('type')}; only bitmasks, brushes and polygons are read")


def _pixels(value: dict[str, Any], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) mask of a bitmask or a brush stroke; ValueError if it is damaged."""
    if "imageDataURL" in value:
        return _read_bitmask(value["imageDataURL"], size_hw)
    return mask_from_brush_rle(value["rle"], size_hw)


def _read_bitmask(url: Any, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    if not isinstance(url, str):
        raise ValueError("its bitmask is no text")
    text = url.partition(",")[2]
    if (inside := _own_bitmask(text, size_hw)) is not None:
        return inside
    with open_png(text, size_hw) as picture:
        if picture.size != (size_hw[1], size_hw[0]):
            raise ValueError(f"its bitmask has {picture.width} x {picture.height} pixels")
        if not picture.has_transparency_data:
            raise ValueError("its bitmask has no transparency, which tells mask from background")
        alpha: NDArray[np.bool_] = np.asarray(picture.convert("RGBA"))[:, :, 3] >= _OPAQUE
        return alpha


def _own_bitmask(text: str, size_hw: tuple[int, int]) -> NDArray[np.bool_] | None:
    """(H, W) mask of a bitmask as it was exported, several times faster than of any PNG; None if it is another."""
    with suppress(ValueError, zlib.error):
        bits = bits_of_png(base64.b64decode(text, validate=True), size_hw)
        if bits is not None:
            return np.unpackbits(bits, axis=1, count=size_hw[1]).view(np.bool_)
    return None


def _region(mask: LabelledMask, kind: Kind, value: dict[str, Any], region_id: str | None) -> dict[str, Any]:
    height, width = mask.rle["size"]
    tag = TAGS[kind].lower()
    return {
        "id": region_id,
        "type": tag,
        "from_name": FROM_NAME,
        "to_name": TO_NAME,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": mask.score,
        "value": value | {tag: [ClassNames.name(mask)]},
    }


def _size(rle: Rle) -> tuple[int, int]:
    height, width = rle["size"]
    return height, width


class LabelStudioWriter:
    """Writes the tasks in order of image id, and the configuration beside them."""

    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination
        self._options = options
        self._kind: Kind = options.segmentation  # type: ignore[assignment]
        self._tasks = destination.spool("tasks")

    def add(self, exported: ExportedImage) -> list[Rle]:
        masks, size_hw = exported.labels.masks, exported.labels.size_hw
        write = {"polygon": self._as_polygons, "brush": _as_brushes, "bitmask": _as_bitmasks}[self._kind]
        result, texts, written = write(masks, size_hw)
        image = exported.image
        score = 1 - image_doubt(exported.labels)
        task = {
            "data": {TO_NAME: self._address(exported), "image_id": image.image_id},
            "meta": {"tolerance_px": self._options.tolerance_px},
            "predictions": [{"model_version": self._options.model_version, "score": score, "result": result}],
        }
        self._tasks.add(exported.number, spliced_json(task, texts).encode())
        return written

    def _as_polygons(self, masks: Sequence[LabelledMask], size_hw: tuple[int, int]) -> _Written:
        polygons = simple_polygons_of(masks, size_hw, self._options.tolerance_px)
        texts = percent_texts(list(itertools.chain.from_iterable(polygons)), size_hw)
        regions_of = [_polygons(mask, [PLACE] * len(of_mask)) for mask, of_mask in zip(masks, polygons, strict=True)]
        read = fill_edge_polygons([percents_read(of_mask, size_hw) for of_mask in polygons], size_hw)
        return list(itertools.chain.from_iterable(regions_of)), texts, read

    def _address(self, exported: ExportedImage) -> str:
        with_images, uri = self._destination.with_images, exported.image.uri
        name = f"{LABEL_STUDIO.image_folder}/{exported.name}" if with_images else exported.name
        default = "{uri}" if is_remote(uri) and not with_images else "/data/local-files/?d={image_id}"
        return (self._options.image_address or default).replace("{image_id}", quote(name)).replace("{uri}", uri)

    def end(self) -> Ended:
        self._tasks.end()
        return Ended({"tasks": self._tasks.path.name})


def _write_tasks(destination: Destination, options: ExportOptions, ended: Sequence[Ended]) -> None:
    with (destination.folder / destination.main).open("wb") as stream:
        stream.write(b"[")
        for number, piece in enumerate(destination.pieces(ended, "tasks")):
            stream.write((b",\n" if number else b"\n") + piece)
        stream.write(b"\n]\n")
    config = labelling_config(destination.names.dense(), options.segmentation)  # type: ignore[arg-type]
    sidecar = destination.folder / destination.main
    sidecar.with_suffix(LABEL_STUDIO.sidecar_suffix).write_text(config, encoding="utf-8")


def _as_brushes(masks: Sequence[LabelledMask], size_hw: tuple[int, int]) -> _Written:
    some = [mask for mask in masks if mask.area]
    brushes = brush_rles(some, size_hw)
    read = iter(rles_of_brushes(brushes, size_hw))
    texts = [f"[{', '.join(map(_BYTES.__getitem__, values))}]" for values in brushes]
    return [_brush(mask, PLACE) for mask in some], texts, [next(read) if mask.area else mask.rle for mask in masks]


def _as_bitmasks(masks: Sequence[LabelledMask], size_hw: tuple[int, int]) -> _Written:
    crops = crops_of([mask.rle for mask in masks], [mask.box_xyxy for mask in masks])
    found = [_bitmask(mask, crop) if mask.area else None for mask, crop in zip(masks, crops, strict=True)]
    read = [
        rle_of_copy(_read_bitmask(region["value"]["imageDataURL"], size_hw), (0, 0), mask, crop) if region else mask.rle
        for mask, crop, region in zip(masks, crops, found, strict=True)
    ]
    return [region for region in found if region], [], read


def _corners(points: Any, size_hw: tuple[int, int]) -> list[float]:
    """A ring of [x, y] in percent as [x0, y0, x1, y1, …] in pixels."""
    percent = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    corners: list[float] = (percent * (size_hw[1] / 100, size_hw[0] / 100)).ravel().tolist()
    return corners


LABEL_STUDIO = Format(
    name="label-studio",
    summary="Label Studio tasks with predictions, doubtful images first, and the labelling configuration beside them",
    suffix=".json",
    naming=Naming.IMAGE_ID,
    keeps=frozenset(Keeps),
    exact=True,
    writer=LabelStudioWriter,
    close=_write_tasks,
    segmentations=("bitmask", "brush", "polygon"),
    tolerance_px=0.0,
    holds_addresses=True,
    sidecar_suffix=".xml",
)
