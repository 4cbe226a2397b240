"""Ground truth drawn by people in annotation tools, on images of a label store or of a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from everymask.classes.taxonomy import Taxonomy
from everymask.errors import InputError
from everymask.evaluation.ground_truth import ClassTruth, EntityTruth, InstanceTruth
from everymask.evaluation.ground_truth.subjects import subject_ids
from everymask.evaluation.ground_truth.yolo import yolo_files, yolo_masks
from everymask.formats.naming import relative_path
from everymask.labels.store import LabelStore
from everymask.masks.rle import decode_mask, rle_areas
from everymask.review.importing import first_of, match_ids, match_images
from everymask.review.reviewed import EditingFormat, RefusedImage, ReviewedImage
from everymask.review.tool_files import READERS, guess_format, read_reviewed
from everymask.wording import counted

AnnotationFormat = EditingFormat | Literal["yolo"]
ANNOTATION_FORMATS = frozenset({*READERS, "yolo"})


@dataclass(frozen=True)
class Annotated:
    """Annotated images of a store or a folder.

    Attributes:
        images: by the store's image id, or by path in the folder.
        notes: sentences on what was left out.
    """

    images: Mapping[str, ReviewedImage]
    notes: tuple[str, ...]


def read_annotated(store: LabelStore, path: Path, kind: AnnotationFormat) -> Annotated:
    """Read annotations and match them with the store's images by id, name or path.

    Masks drawn as boxes or ellipses are left out, because they do not outline objects.

    Raises:
        InputError: the annotations cannot be read, or match no image of the store.
    """
    read = _read_yolo(store, path) if kind == "yolo" else read_reviewed(path, kind)
    refused = [one.problem for one in read if isinstance(one, RefusedImage)]
    found, strangers = match_images(store, [one for one in read if isinstance(one, ReviewedImage)])
    return _annotated(found, refused, strangers, f"{path} annotates no image of {store.uri}")


def read_annotated_files(names: Set[str], folder: str, path: Path) -> Annotated:
    """The same for pictures of a folder, by their paths in it; the format is guessed.

    Raises:
        InputError: as `read_annotated`.
        ConfigurationError: the annotations look like no known format.
    """
    read = read_reviewed(path, guess_format(path))
    refused = [one.problem for one in read if isinstance(one, RefusedImage)]
    found, strangers = match_ids(names, folder, [one for one in read if isinstance(one, ReviewedImage)])
    return _annotated(found, refused, strangers, f"{path} annotates no picture of {folder}")


def _annotated(found: dict[str, ReviewedImage], refused: list[str], strangers: list[str], nothing: str) -> Annotated:
    notes = [f"left out: {first_of(sentences)}" for sentences in (refused, strangers) if sentences]
    if not found:
        raise InputError(f"{nothing}: {first_of(refused + strangers) or 'it is empty'}")
    ignored: Counter[str] = Counter()
    for image in found.values():
        ignored.update(image.ignored)
        ignored.update(f"{mask.drawn_as} in place of an outline" for mask in image.masks if mask.drawn_as)
    notes += [f"left out: {count:,} x {what}" for what, count in sorted(ignored.items())]
    drawn = [mask for image in found.values() for mask in image.masks]
    if drawn and all(mask.is_group for mask in drawn):
        notes.append(
            "every annotation is a group (iscrowd 1), as CVAT writes its masks; they are taken as single objects"
        )
        found = {
            image_id: replace(image, masks=tuple(replace(mask, is_group=False) for mask in image.masks))
            for image_id, image in found.items()
        }
    return Annotated(found, tuple(notes))


def class_truth(
    annotated: Annotated, taxonomy: Taxonomy, sizes: Mapping[str, tuple[int, int]], source: Path
) -> dict[str, ClassTruth]:
    """Ground truth of classes by image id. Where objects overlap, the smaller one is in front.

    Args:
        taxonomy: its subjects are classes of the annotations.
        sizes: (height, width) of the store's images by id, for images without a mask.
        source: named in errors.

    Raises:
        ConfigurationError: a subject is not in the annotations.
    """
    named = sorted({mask.class_name for image in annotated.images.values() for mask in image.masks})
    numbers = {name: number for number, name in enumerate(named)}
    class_ids = subject_ids(numbers, taxonomy, source)
    truth = {}
    for image_id, image in annotated.images.items():
        size_hw = image.size_hw if image.size_hw != (0, 0) else sizes[image_id]
        masks = [
            (class_ids[numbers[mask.class_name]], mask.rle, mask.is_group)
            for mask in image.masks
            if mask.drawn_as is None and numbers[mask.class_name] in class_ids
        ]
        areas = rle_areas([rle for _, rle, _ in masks])
        semantic = np.zeros(size_hw, dtype=np.int32)
        for position in np.argsort(-areas, kind="stable"):
            class_id, rle, _ = masks[position]
            semantic[decode_mask(rle)] = class_id + 1
        instances = tuple(
            InstanceTruth(class_id, rle, float(area), is_group)
            for (class_id, rle, is_group), area in zip(masks, areas, strict=True)
        )
        truth[image_id] = ClassTruth(size_hw, instances, semantic)
    return truth


def entity_truth(annotated: Annotated, sizes: Mapping[str, tuple[int, int]]) -> dict[str, EntityTruth]:
    """Ground truth of entities of any class, by image id. Arguments as in `class_truth`."""
    truth = {}
    for image_id, image in annotated.images.items():
        masks = [mask for mask in image.masks if mask.drawn_as is None]
        size_hw = image.size_hw if image.size_hw != (0, 0) else sizes[image_id]
        truth[image_id] = EntityTruth(
            size_hw, tuple(mask.rle for mask in masks), tuple(mask.is_group for mask in masks)
        )
    return truth


def _read_yolo(store: LabelStore, path: Path) -> list[ReviewedImage | RefusedImage]:
    """Read YOLO's files, with image sizes from the store."""
    names, files = yolo_files(path)
    sizes: dict[str, list[tuple[str, tuple[int, int]]]] = {}
    for batch in store.batches(["image_id", "width", "height"], batch_size=4096):
        for row in batch.to_pylist():
            if row["width"] and row["height"]:
                place = PurePosixPath(relative_path(row["image_id"])).with_suffix("")
                for stem in {place.as_posix(), place.name}:
                    sizes.setdefault(stem, []).append((row["image_id"], (row["height"], row["width"])))
    found: list[ReviewedImage | RefusedImage] = []
    for stem, file in files.items():
        candidates = sizes.get(stem, [])
        if len(candidates) != 1:
            how_many = counted(len(candidates), "image") if candidates else "no image"
            found.append(RefusedImage(stem, f"{file} fits {how_many} of {store.uri}"))
            continue
        ((image_id, size_hw),) = candidates
        try:
            masks, boxes = yolo_masks(file, names, size_hw)
        except InputError as error:
            found.append(RefusedImage(stem, str(error)))
            continue
        found.append(ReviewedImage(stem, image_id, size_hw, masks, ignored={"box": boxes} if boxes else {}))
    return found
