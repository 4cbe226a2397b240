"""Exemplars cut from your own scenes, along boxes that a person or a label store gives."""

from __future__ import annotations

import io
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from everymask.classes.exemplars.manifest import Origin
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError, InputError
from everymask.files.addresses import AddressPolicy
from everymask.files.json_text import parse_json
from everymask.files.storage import one_line
from everymask.images.decoding import IMAGE_SUFFIXES, ImageLimits, decode_image
from everymask.images.files import read_bytes, read_labelled_bytes
from everymask.labels.address_policy import address_policy
from everymask.labels.corrections import labelled_images
from everymask.labels.store import LabelStore

logger = logging.getLogger(__name__)

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels, half-open."""
_OUTSIDE_PX = 1.0
"""Boxes may reach this far beyond their image, since tools round."""


@dataclass(frozen=True)
class BoxedImage:
    """An image with the boxes of its subjects.

    Attributes:
        uri: where the image is.
        boxes: (subject, box) pairs.
        relative: whether boxes are in shares of the sides, [0, 1], as YOLO's.
        where: names the annotation in errors.
        read: reads its bytes; raises as `everymask.images.files.read_bytes`.
        groups: subjects with boxes around a group of things, from which no exemplar is cut.
    """

    uri: str
    boxes: tuple[tuple[str, Box], ...]
    relative: bool
    where: str
    read: Callable[[], bytes]
    groups: tuple[str, ...] = ()


def boxed_pictures(
    boxes: str,
    images: str | None,
    taxonomy: Taxonomy,
    margin: float,
    limits: ImageLimits,
    local_roots: Sequence[str] = (),
    allow_private_networks: bool = False,
) -> Iterator[tuple[Origin, bytes]]:
    """Cut out the boxes of the subjects in `taxonomy`, with some surroundings, as JPEG files in a fixed order.

    Missing or damaged images and boxes without an extent are left out, with a warning.

    Args:
        boxes: a COCO file (.json), a YOLO data.yaml, or a label store of classes, read as people corrected it.
        images: the folder of the images; None takes that of data.yaml, or the addresses in the store.
        taxonomy: the subjects to cut out.
        margin: surroundings on each side, as a share of the box's longer side.
        limits: bounds on reading an image.
        local_roots: folders whose images the annotations may name, besides `images`.
        allow_private_networks: let http addresses of images lead to machines that are not on the public internet.

    Raises:
        ConfigurationError: the annotations cannot be read, name none of the subjects, or a box lies outside its image.
    """
    subjects = {subject for subject, _ in taxonomy.subjects}
    found: set[str] = set()
    groups: Counter[str] = Counter()
    empty = 0
    for image in _boxed_images(boxes, images, limits, local_roots, allow_private_networks):
        groups.update(image.groups)
        wanted = [(subject, box) for subject, box in image.boxes if subject in subjects]
        empty += sum(_is_empty(box) for _, box in wanted)
        wanted = [(subject, box) for subject, box in wanted if not _is_empty(box)]
        if not wanted:
            continue
        try:
            pixels = decode_image(image.read(), limits)
        except (InputError, OSError) as error:
            logger.warning("%s is left out: the image %s cannot be read: %s", image.where, image.uri, one_line(error))
            continue
        height, width = pixels.shape[:2]
        for subject, box in wanted:
            scale = (width, height, width, height) if image.relative else (1, 1, 1, 1)
            x0, y0, x1, y1 = (value * side for value, side in zip(box, scale, strict=True))
            if not (_lies_in(x0, x1, width) and _lies_in(y0, y1, height)):
                raise ConfigurationError(
                    f"{image.where}: the box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) of {subject!r} does not lie in its image "
                    f"of {width} x {height} pixels; mend it"
                )
            found.add(subject)
            place, data = cut_out(pixels, (x0, y0, x1, y1), margin)
            yield Origin(subject, "boxes", url=f"{image.uri}{place}"), data
    if empty:
        logger.warning("%s: %d boxes without width or height are left out", boxes, empty)
    missing = [subject for subject, _ in taxonomy.subjects if subject not in found]
    of_groups = [f"{groups[subject]:,} of {subject}" for subject in missing if groups[subject]]
    if of_groups:
        raise ConfigurationError(
            f"{boxes} has boxes of groups only (iscrowd 1): {', '.join(of_groups)}. No exemplar is cut from a group; "
            "where these are single objects, as CVAT writes its masks, set iscrowd to 0"
        )
    if missing:
        raise ConfigurationError(f"{boxes} has no box of {', '.join(missing)}; check the names of its classes")


def cut_out(pixels: NDArray[np.uint8], box: Box, margin: float) -> tuple[str, bytes]:
    """What lies in a box of an (H, W, 3) uint8 RGB image, as a JPEG file, and where that is: `#xyxy=…`.

    Args:
        margin: surroundings on each side, as a share of the box's longer side.
    """
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = box
    around = margin * max(x1 - x0, y1 - y0)
    left, top = max(0, math.floor(x0 - around)), max(0, math.floor(y0 - around))
    right, bottom = min(width, math.ceil(x1 + around)), min(height, math.ceil(y1 + around))
    stream = io.BytesIO()
    Image.fromarray(pixels[top:bottom, left:right]).save(stream, "JPEG", quality=95)
    return f"#xyxy={left},{top},{right},{bottom}", stream.getvalue()


def _is_empty(box: Box) -> bool:
    """Whether a box has no width or height; NaN is not empty but wrong."""
    return box[0] == box[2] or box[1] == box[3]


def _lies_in(low: float, high: float, side: int) -> bool:
    """Whether a box's extent lies in an image, up to rounding; false for NaN."""
    return low >= -_OUTSIDE_PX and high <= side + _OUTSIDE_PX and max(low, 0) < min(high, side)


def _boxed_images(
    boxes: str, images: str | None, limits: ImageLimits, local_roots: Sequence[str], allow_private_networks: bool
) -> Iterator[BoxedImage]:
    path = Path(boxes)
    if path.suffix == ".json":
        policy = AddressPolicy((*filter(None, [images]), *local_roots), False, allow_private_networks)
        return _coco(path, images, partial(read_bytes, limits=limits, policy=policy))
    if path.suffix in (".yaml", ".yml"):
        return _yolo(path, images, partial(read_bytes, limits=limits, policy=AddressPolicy(any_local_file=True)))
    store = LabelStore(boxes)
    policy = address_policy(store, local_roots, allow_private_networks)
    return _store(store, partial(read_labelled_bytes, limits=limits, policy=policy))


def _coco(path: Path, images: str | None, read: Callable[[str], bytes]) -> Iterator[BoxedImage]:
    if images is None:
        raise ConfigurationError(f"{path} does not say where its images are; give their folder with --input")
    content = _read(path, parse_json)
    try:
        names = {item["id"]: str(item["name"]) for item in content["categories"]}
        files = {item["id"]: str(item["file_name"]) for item in content["images"]}
        by_image: dict[Any, list[tuple[str, Box]]] = {number: [] for number in files}
        groups: dict[Any, list[str]] = {number: [] for number in files}
        strays = 0
        for item in content["annotations"]:
            if item["image_id"] not in files:
                strays += 1
            elif item.get("iscrowd", 0):
                groups[item["image_id"]].append(names[item["category_id"]])
            elif item.get("bbox"):
                x, y, width, height = (float(value) for value in item["bbox"])
                by_image[item["image_id"]].append((names[item["category_id"]], (x, y, x + width, y + height)))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConfigurationError(f"{path} is no COCO file with boxes ({type(error).__name__}: {error})") from error
    if strays:
        logger.warning("%s: %d annotations belong to none of its images and are left out", path, strays)
    for image_id, file in sorted(files.items(), key=lambda pair: pair[1]):
        uri, where = f"{images}/{file}", f"{path}, {file}"
        boxed = tuple(by_image[image_id])
        yield BoxedImage(uri, boxed, False, where, partial(read, uri), tuple(groups[image_id]))


def _yolo(path: Path, images: str | None, read: Callable[[str], bytes]) -> Iterator[BoxedImage]:
    content = _read(path, yaml.safe_load)
    try:
        names = content["names"]
        known = dict(enumerate(names)) if isinstance(names, list) else {int(key): name for key, name in names.items()}
        folder = Path(images) if images else _yolo_folder(path, str(content.get("path", ".")), str(content["train"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"{path} is no data.yaml of YOLO ({type(error).__name__}: {error}): it must have `names`, and `train`, the "
            "folder of images, unless --input names that"
        ) from error
    if not folder.is_dir():
        raise ConfigurationError(f"{path}: there is no folder {folder} of images; name it with --input")
    for image in sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES):
        # As Ultralytics finds them: the last `images` in the path becomes `labels`.
        before, found, after = str(image).rpartition("/images/")
        labels = Path(f"{before}/labels/{after}" if found else image).with_suffix(".txt")
        if labels.is_file():
            lines = enumerate(_read(labels, str.splitlines), start=1)
            boxes = [_yolo_box(line, known, f"{labels}, line {number}") for number, line in lines if line.strip()]
            yield BoxedImage(str(image), tuple(boxes), True, str(labels), partial(read, str(image)))


def _yolo_folder(path: Path, root: str, train: str) -> Path:
    """The image folder of a data.yaml; Roboflow writes its path with a `../` too many."""
    folder = path.parent / root / train
    if not folder.is_dir() and train.startswith("../"):
        return path.parent / root / train.removeprefix("../")
    return folder


def _yolo_box(line: str, names: dict[int, Any], where: str) -> tuple[str, Box]:
    """Parse a line of a box (class, centre, sides) or a polygon (class, corners), in shares of the image."""
    try:
        class_id, *numbers = line.split()
        values = [float(value) for value in numbers]
        subject = str(names[int(class_id)])
        if len(values) == 4:
            x, y, width, height = values
            return subject, (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        if len(values) >= 6 and len(values) % 2 == 0:
            return subject, (min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2]))
    except (ValueError, KeyError, OverflowError) as error:
        raise ConfigurationError(f"{where} is no box of YOLO ({type(error).__name__}: {error}); mend it") from error
    raise ConfigurationError(f"{where} has {len(values)} numbers, neither a box nor a polygon of YOLO; mend it")


def _store(store: LabelStore, read: Callable[..., bytes]) -> Iterator[BoxedImage]:
    for image, labels in labelled_images(store, corrections=True):
        boxes = [
            (mask.class_name, (float(x0), float(y0), float(x1), float(y1)))
            for mask in labels.masks
            if mask.class_name is not None and mask.area
            for x0, y0, x1, y1 in [mask.box_xyxy]
        ]
        read_this = partial(read, image.uri, image.content_sha256, member=image.member)
        yield BoxedImage(image.uri, tuple(boxes), False, f"{store.uri}, {image.image_id}", read_this)


def _read(path: Path, parse: Any) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error.strerror}); check --boxes and what it names"
        ) from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be understood ({type(error).__name__}); check the file") from error
