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
import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Literal
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import InputError
from everymask.formats.class_names import ClassNames
from everymask.formats.format import Destination, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.formats.outlines import Polygon, fill_polygons, simple_polygons
from everymask.formats.spool import Spool
from everymask.labels.doubt import image_doubt
from everymask.masks.rle import decode_mask, encode_mask
from everymask.masks.runs import crop_of, row_major_runs
from everymask.records import LabelledMask, Rle
from everymask.storage import is_remote

Kind = Literal["bitmask", "brush", "polygon"]
TAGS: dict[str, str] = {"bitmask": "BitmaskLabels", "brush": "BrushLabels", "polygon": "PolygonLabels"}
FROM_NAME, TO_NAME = "masks", "image"
_BRUSH_SIZES = (3, 4, 8, 16)
_LONGEST_RUN = 2**16
_OPAQUE = 128


def labelling_config(names: Sequence[str], kind: Kind) -> str:
    """The labelling configuration (XML) that regions of `kind` belong to, with a label for each class."""
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in names)
    smoothing = ' smoothing="false"' if kind == "bitmask" else ""
    tag = TAGS[kind]
    return (
        f'<View>\n  <Image name="{TO_NAME}" value="${TO_NAME}" zoom="true"{smoothing}/>\n'
        f'  <{tag} name="{FROM_NAME}" toName="{TO_NAME}">\n{labels}  </{tag}>\n</View>\n'
    )


def regions(mask: LabelledMask, kind: Kind, tolerance_px: float = 0.0) -> list[dict[str, Any]]:
    """One mask as regions of a prediction's `result`: one, or one for each polygon; none for an empty mask.

    Args:
        mask: with an id.
        kind: of region.
        tolerance_px: of polygons.
    """
    height, width = mask.rle["size"]
    if mask.area == 0:
        return []
    if kind == "polygon":
        polygons = simple_polygons(mask, tolerance_px)
        return [
            _region(mask, kind, {"points": _percent(polygon, (height, width)), "closed": True}, _piece_id(mask, number))
            for number, polygon in enumerate(polygons)
        ]
    value: dict[str, Any] = {"imageDataURL": bitmask_url(mask.rle)} if kind == "bitmask" else brush_value(mask)
    return [_region(mask, kind, value, mask.mask_id)]


def prediction(masks: Sequence[LabelledMask], kind: Kind, score: float, model_version: str, tolerance_px: float) -> Any:
    """The prediction of one task.

    Args:
        masks: of its image.
        kind: of region.
        score: what Label Studio sorts tasks by, [0, 1].
        model_version: what made the masks.
        tolerance_px: of polygons.
    """
    result = [region for mask in masks for region in regions(mask, kind, tolerance_px)]
    return {"model_version": model_version, "score": score, "result": result}


def bitmask_url(rle: Rle) -> str:
    """A mask as a `data:` address of a PNG, black on transparent."""
    picture = Image.fromarray(decode_mask(rle).view(np.uint8))
    picture.putpalette([0, 0, 0, 0, 0, 0])
    buffer = BytesIO()
    picture.save(buffer, "PNG", transparency=bytes([0, 255]), bits=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def brush_value(mask: LabelledMask) -> dict[str, Any]:
    """A mask as the value of a brush region."""
    runs = row_major_runs(crop_of(mask.rle, mask.box_xyxy), mask.box_xyxy[:2], _size(mask.rle))
    return {"format": "rle", "rle": brush_rle(runs)}


def brush_rle(runs: NDArray[np.int64]) -> list[int]:
    """Label Studio's run lengths of an image: bytes of a bit stream, 0 and 255 in all four channels.

    Args:
        runs: (K,) row-major, alternately background and foreground, in pixels.
    """
    lengths = runs * 4
    values = np.where(np.arange(lengths.size) % 2, 255, 0)
    pieces = np.maximum(1, -(-lengths // _LONGEST_RUN))
    pieces[lengths == 0] = 0
    last = np.cumsum(pieces) - 1
    split = np.full(int(pieces.sum()), _LONGEST_RUN)
    split[last[pieces > 0]] = (lengths - (pieces - 1) * _LONGEST_RUN)[pieces > 0]
    split_values = np.repeat(values, pieces)
    size_index = np.searchsorted([8, 16, 256], split, side="left")
    size_bits = np.array(_BRUSH_SIZES)[size_index]
    # A record: 1 for a run, 2 bits for the width of the length, the length - 1, 8 bits of value.
    records = (((1 << 2) | size_index) << size_bits | (split - 1)) << 8 | split_values
    record_bits = 3 + size_bits + 8
    header_value = (int(lengths.sum()) << 21) | (7 << 16) | (2 << 12) | (3 << 8) | (7 << 4) | 15
    header = [(header_value >> shift) & 1 for shift in range(52, -1, -1)]
    owner = np.repeat(np.arange(records.size), record_bits)
    place = np.arange(owner.size) - np.repeat(np.cumsum(record_bits) - record_bits, record_bits)
    bits = (records[owner] >> (record_bits[owner] - 1 - place)) & 1
    packed: list[int] = np.packbits(np.concatenate([header, bits]).astype(np.uint8)).tolist()
    return packed


def read_region(region: dict[str, Any], size_hw: tuple[int, int]) -> Rle:
    """The mask of one region of a result.

    Raises:
        InputError: it is not a mask of an image of that size.
    """
    height, width = size_hw
    if (region.get("original_height"), region.get("original_width")) != (height, width):
        raise InputError(
            f"region {region.get('id')} is of an image of {region.get('original_width')} x "
            f"{region.get('original_height')} pixels, not {width} x {height}"
        )
    value = region.get("value")
    try:
        if not isinstance(value, dict):
            raise ValueError("it has no value")
        if "imageDataURL" in value:
            return encode_mask(_read_bitmask(value["imageDataURL"], size_hw))
        if "rle" in value:
            return encode_mask(read_brush(value["rle"], size_hw))
        if "points" in value:
            points = np.asarray(value["points"], dtype=np.float64).reshape(-1, 2) * (width / 100, height / 100)
            return fill_polygons([points.ravel().tolist()], size_hw)
    except (ValueError, KeyError, TypeError, OSError, OverflowError) as error:
        raise InputError(f"region {region.get('id')} cannot be read: {error}") from error
    raise InputError(
        f"region {region.get('id')} is a {region.get('type')}; only bitmasks, brushes and polygons are read"
    )


def read_brush(rle: Sequence[int], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool of Label Studio's run lengths: pixels whose alpha is at least 128.

    Raises:
        ValueError: they are cut short, or not of that size.
    """
    lengths, values = _brush_records(rle, size_hw[0] * size_hw[1] * 4)
    channels = np.repeat(np.array(values, dtype=np.uint8), lengths)
    return channels.reshape(*size_hw, 4)[:, :, 3] >= _OPAQUE


def _brush_records(rle: Sequence[int], total: int) -> tuple[list[int], list[int]]:
    """Lengths and values of the records of a brush's bit stream, `total` values together."""
    data = bytes(rle)
    bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
    announced, word = int(bits[:32], 2), int(bits[32:37], 2) + 1
    sizes = [int(bits[start : start + 4], 2) + 1 for start in range(37, 53, 4)]
    if announced != total:
        raise ValueError(f"it has {announced:,} run-length values where the image's four channels have {total:,}")
    lengths, values = [], []
    at, left = 53, total
    while left > 0:
        size = sizes[int(bits[at + 1 : at + 3], 2)]
        length = int(bits[at + 3 : at + 3 + size], 2) + 1
        is_run = bits[at] == "1"
        at += 3 + size
        if is_run:
            lengths.append(min(length, left))
            values.append(int(bits[at : at + word], 2))
            at += word
        else:
            found = range(at, at + length * word, word)
            lengths += [1] * min(length, left)
            values += [int(bits[start : start + word], 2) for start in found][:left]
            at += length * word
        left -= length
    return lengths, values


def _read_bitmask(url: str, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    with Image.open(BytesIO(base64.b64decode(url.partition(",")[2], validate=True)), formats=("PNG",)) as picture:
        if picture.size != (size_hw[1], size_hw[0]):
            raise ValueError(f"its bitmask has {picture.width} x {picture.height} pixels")
        if not picture.has_transparency_data:
            raise ValueError("its bitmask has no transparency, which tells mask from background")
        alpha: NDArray[np.bool_] = np.asarray(picture.convert("RGBA"))[:, :, 3] >= _OPAQUE
        return alpha


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


def _piece_id(mask: LabelledMask, number: int) -> str | None:
    return mask.mask_id if number == 0 else f"{mask.mask_id}-{number}"


def _percent(polygon: Polygon, size_hw: tuple[int, int]) -> list[list[float]]:
    corners: list[list[float]] = (polygon * (100 / size_hw[1], 100 / size_hw[0])).tolist()
    return corners


def _size(rle: Rle) -> tuple[int, int]:
    height, width = rle["size"]
    return height, width


class LabelStudioWriter:
    """Writes the tasks in order of image id, and the configuration beside them."""

    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination
        self._options = options
        self._kind: Kind = options.segmentation  # type: ignore[assignment]
        self._tasks = Spool(destination.folder / "tasks.spool")

    def add(self, exported: ExportedImage) -> list[Rle]:
        """See `Writer`."""
        written, result = [], []
        for mask in exported.labels.masks:
            found = regions(mask, self._kind, self._options.tolerance_px)
            result += found
            written.append(_read_back(mask, found))
        image = exported.image
        score = 1 - image_doubt(exported.labels)
        task = {
            "data": {TO_NAME: self._address(exported), "image_id": image.image_id},
            "meta": {"tolerance_px": self._options.tolerance_px},
            "predictions": [{"model_version": self._options.model_version, "score": score, "result": result}],
        }
        self._tasks.add(exported.number, json.dumps(task).encode())
        return written

    def _address(self, exported: ExportedImage) -> str:
        with_images, uri = self._destination.with_images, exported.image.uri
        name = f"{LABEL_STUDIO.image_folder}/{exported.name}" if with_images else exported.name
        default = "{uri}" if is_remote(uri) and not with_images else "/data/local-files/?d={image_id}"
        return (self._options.image_address or default).replace("{image_id}", quote(name)).replace("{uri}", uri)

    def close(self) -> None:
        """See `Writer`."""
        with (self._destination.folder / self._destination.main).open("wb") as stream:
            stream.write(b"[")
            for number, piece in enumerate(self._tasks.pieces()):
                stream.write((b",\n" if number else b"\n") + piece)
            stream.write(b"\n]\n")
        config = labelling_config(self._destination.names.dense(), self._kind)
        sidecar = self._destination.folder / self._destination.main
        sidecar.with_suffix(LABEL_STUDIO.sidecar_suffix).write_text(config, encoding="utf-8")


def _read_back(mask: LabelledMask, found: list[dict[str, Any]]) -> Rle:
    """The union of a mask's regions, as an importer reads them."""
    size_hw = _size(mask.rle)
    masks = [decode_mask(read_region(region, size_hw)) for region in found]
    return encode_mask(np.logical_or.reduce(masks) if masks else np.zeros(size_hw, dtype=np.bool_))


LABEL_STUDIO = Format(
    name="label-studio",
    summary="Label Studio tasks with predictions, doubtful images first, and the labelling configuration beside them",
    suffix=".json",
    naming=Naming.IMAGE_ID,
    keeps=frozenset(Keeps),
    exact=True,
    writer=LabelStudioWriter,
    segmentations=("bitmask", "brush", "polygon"),
    tolerance_px=0.0,
    sidecar_suffix=".xml",
)
