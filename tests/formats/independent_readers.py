"""Readers of every export format that share no code with the writers: format → masks of an image as (H, W) bool.

They follow what each format's own documentation says, slowly and plainly.
"""

from __future__ import annotations

import base64
import json
import tarfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from skimage.measure import points_in_poly

from tests.masks.opencv_fill import draw

Masks = list[NDArray[np.bool_]]


def fill(polygons: Sequence[Any], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels whose centres lie inside, by the even-odd rule over all rings [[x, y], …]."""
    y, x = np.mgrid[:height, :width] + 0.5
    centres = np.stack([x, y], axis=-1).reshape(-1, 2)
    inside = np.zeros(height * width, bool)
    for polygon in polygons:
        inside ^= points_in_poly(centres, np.asarray(polygon, dtype=float).reshape(-1, 2))
    return inside.reshape(height, width)


def png(data: str | Path, mode: str | None = None) -> NDArray[Any]:
    """A PNG file, or one in base64; converted to a mode if one is given."""
    with Image.open(data if isinstance(data, Path) else BytesIO(base64.b64decode(data))) as picture:
        return np.asarray(picture.convert(mode) if mode else picture)


def coco(output: Path, name: str) -> Masks:
    """By pycocotools."""
    content = COCO(str(output))
    (image,) = [image for image in content.imgs.values() if image["file_name"] == name]
    found = content.loadAnns(content.getAnnIds(imgIds=[image["id"]]))
    return [content.annToMask(annotation).astype(bool) for annotation in found]


def coco_folders(output: Path, name: str) -> Masks:
    """By pycocotools, from COCO's own folders."""
    return coco(output / "annotations" / "instances_train.json", name)


def coco_roboflow(output: Path, name: str) -> Masks:
    """By pycocotools, from Roboflow's folders."""
    return coco(output / "train" / "_annotations.coco.json", name)


def coco_panoptic(output: Path, name: str) -> Masks:
    """Ids are R + 256 G + 65,536 B (https://cocodataset.org/#format-data)."""
    content = json.loads((output / "annotations/panoptic_default.json").read_text())
    (image,) = [image for image in content["images"] if image["file_name"] == name]
    (annotation,) = [one for one in content["annotations"] if one["image_id"] == image["id"]]
    colours = png(output / "annotations/panoptic_default" / annotation["file_name"]).astype(int)
    ids = colours[..., 0] + 256 * colours[..., 1] + 65_536 * colours[..., 2]
    return [ids == segment["id"] for segment in annotation["segments_info"]]


def bits_of(data: Sequence[int]) -> Callable[[int], int]:
    """A function that reads the next bits of a stream as a number."""
    bits = iter("".join(f"{byte:08b}" for byte in data))
    return lambda count: int("".join(next(bits) for _ in range(count)), 2)


def brush(data: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Label Studio's run-length encoding of RGBA values: size, word size, four lengths, then runs or literals."""
    read = bits_of(data)
    size, word = read(32), read(5) + 1
    lengths = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < size:
        run = read(1)
        count = read(lengths[read(2)]) + 1
        values += [read(word)] * count if run else [read(word) for _ in range(count)]
    return np.array(values, dtype=np.uint8).reshape(height, width, 4)[..., 3] > 127


def label_studio(output: Path, name: str) -> Masks:
    """The union of the regions whose id begins with the mask's."""
    (task,) = [task for task in json.loads(output.read_text()) if task["data"]["image_id"] == name]
    polygons = defaultdict(list)
    found = {}
    for region in task["predictions"][0]["result"]:
        height, width, value = region["original_height"], region["original_width"], region["value"]
        mask_id = region["id"].partition("-")[0]
        if "points" in value:
            polygons[mask_id].append(np.array(value["points"]) * (width / 100, height / 100))
            found[mask_id] = fill(polygons[mask_id], height, width)
        elif "rle" in value:
            found[mask_id] = brush(value["rle"], height, width)
        else:
            found[mask_id] = png(value["imageDataURL"].partition(",")[2], "RGBA")[..., 3] > 127
    return list(found.values())


def beside(output: Path, name: str) -> Any:
    """The JSON file of an image."""
    return json.loads((output / name).with_suffix(".json").read_text())


def x_anylabeling(output: Path, name: str) -> Masks:
    """Polygons of one group are one mask."""
    content = beside(output, name)
    groups = defaultdict(list)
    for shape in content["shapes"]:
        groups[shape["group_id"]].append(shape["points"])
    return [fill(group, content["imageHeight"], content["imageWidth"]) for group in groups.values()]


def labelme(output: Path, name: str) -> Masks:
    """Crops at the first of two points, which are the first and the last pixel."""
    content = beside(output, name)
    found = []
    for shape in content["shapes"]:
        (x0, y0), (x1, y1) = shape["points"]
        mask = np.zeros((content["imageHeight"], content["imageWidth"]), bool)
        mask[y0 : y1 + 1, x0 : x1 + 1] = png(shape["mask"]) > 0
        found.append(mask)
    return found


def cvat(output: Path, name: str) -> Masks:
    """Runs inside a box, row by row, background first."""
    (image,) = [image for image in ET.parse(output).getroot().iter("image") if image.get("name") == name]
    found = []
    for element in image.iter("mask"):
        left, top, width, height = (int(element.get(key, "")) for key in ("left", "top", "width", "height"))
        runs = [int(value) for value in element.get("rle", "").split(",")]
        crop = [number % 2 == 1 for number, run in enumerate(runs) for _ in range(run)]
        mask = np.zeros((int(image.get("height", "")), int(image.get("width", ""))), bool)
        mask[top : top + height, left : left + width] = np.array(crop).reshape(height, width)
        found.append(mask)
    return found


def voc(output: Path, name: str) -> Masks:
    """Objects are numbered from 1; the class map has the same pixels."""
    stem = name.rpartition(".")[0]
    objects, classes = (png(output / folder / f"{stem}.png") for folder in ("SegmentationObject", "SegmentationClass"))
    np.testing.assert_array_equal(objects > 0, classes > 0)
    return [objects == number for number in range(1, int(objects.max()) + 1)]


def yolo(output: Path, name: str, size_hw: tuple[int, int]) -> Masks:
    """One ring around all parts, in shares of the image's size, cut to pixels and drawn as OpenCV does."""
    height, width = size_hw
    lines = (output / "labels" / f"{name.rpartition('.')[0]}.txt").read_text().splitlines()
    rings = [np.array([float(value) for value in line.split()[1:]]).reshape(-1, 2) for line in lines]
    return [draw((ring * (width, height)).astype(np.int64), size_hw) for ring in rings]


def _of_index(values: NDArray[Any], objects: list[dict[str, Any]]) -> Masks:
    """Value k is the k-th object, unless it has run lengths of its own."""
    size = list(values.shape)
    return [
        coco_mask.decode({"size": size, "counts": item["counts"]}).astype(bool) if item["counts"] else values == number
        for number, item in enumerate(objects, start=1)
    ]


def hugging_face(output: Path, name: str) -> Masks:
    """A row's index picture and objects."""
    (row,) = [row for row in pq.read_table(output / "data").to_pylist() if row["image_id"] == name]
    return _of_index(np.asarray(Image.open(BytesIO(row["masks"]["bytes"]))), row["objects"])


def web_dataset(output: Path, name: str) -> Masks:
    """The index picture and the JSON of one key, whatever shard they are in."""
    key = name.rpartition(".")[0]
    for shard in sorted(output.glob("*.tar")):
        with tarfile.open(shard) as tar:
            if f"{key}.json" in tar.getnames():
                content = json.load(tar.extractfile(f"{key}.json"))
                values = np.asarray(Image.open(BytesIO(tar.extractfile(f"{key}.index.png").read())))
                return _of_index(values, content["objects"])
    raise FileNotFoundError(name)


def entity_png(output: Path, name: str) -> Masks:
    """Value k is the k-th mask."""
    values = png(output / f"{name}.png")
    return [values == number for number in range(1, int(values.max()) + 1)]


def semantic_png(output: Path, name: str) -> Masks:
    """Value k + 1 is all of class k."""
    values = png(output / f"{name}.png")
    return [values == number for number in np.unique(values[values > 0])]
