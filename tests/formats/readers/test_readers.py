"""Exports, read by the tools they are for: IoU of every mask with the store.

Tools that do not fit this environment have environments of their own (`make readers`); these tests are marked slow.
Each test prints a line of the table of formats and readers: `pytest -s`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from everymask.formats.registry import FORMATS
from everymask.labels.store import LabelStore
from everymask.masks.rle import decode_mask
from tests.formats.exporting import run_export
from tests.formats.readers.environments import python_of
from tests.formats.shapes import shape_store, shapes

READ_EXPORT = Path(__file__).parent / "read_export.py"
REPOSITORY = Path(__file__).resolve().parents[3]
Masks = list[NDArray[np.bool_]]


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    """Every shape that formats get wrong, an image without a mask, and an EXIF portrait."""
    return shape_store(tmp_path)


def stored_masks(store: LabelStore) -> dict[str, NDArray[np.bool_]]:
    """Masks of the store by id."""
    return {
        str(mask.mask_id): decode_mask(mask.rle)
        for image in store.images()
        if image.labels is not None
        for mask in image.labels.masks
    }


def worst_iou(store: LabelStore, found: Masks) -> float:
    """The lowest over stored masks of the best IoU with a mask that a reader found."""

    def best(mask: NDArray[np.bool_]) -> float:
        rivals = [other for other in found if other.shape == mask.shape]
        return max((float((mask & other).sum() / (mask | other).sum()) for other in rivals), default=0.0)

    return min(best(mask) for mask in stored_masks(store).values())


def tell(format_name: str, segmentation: str, reader: str, iou: float) -> None:
    """A line of the table."""
    print(f"\n| {format_name} {segmentation} | {reader} | {iou:.3f} |")


def exported(
    store: LabelStore, folder: Path, name: str, segmentation: str, file: str = "", images: str | None = "copy"
) -> Path:
    """The export as its reader is pointed to it."""
    output = folder / "export" / file
    exact = 0.0 if FORMATS[name].tolerance_px is not None else None
    run_export(store, name, output, segmentation or None, exact, images=images)
    return output


@pytest.mark.parametrize("segmentation", ["rle", "uncompressed", "polygon"])
def test_torchvision_reads_coco(store: LabelStore, tmp_path: Path, segmentation: str) -> None:
    from torchvision.datasets import CocoDetection

    output = exported(store, tmp_path, "coco", segmentation, "instances.json")
    dataset = CocoDetection(str(output.parent / "images"), str(output))
    found: Masks = []
    for picture, listed in dataset:
        for annotation in listed:
            mask = dataset.coco.annToMask(annotation).astype(bool)
            assert mask.shape == (picture.height, picture.width)
            found.append(mask)
    tell("coco", segmentation, "torchvision", worst_iou(store, found))
    assert len(dataset) == 3
    assert worst_iou(store, found) == 1.0


@pytest.mark.parametrize("segmentation", ["rle", "uncompressed"])
def test_supervision_reads_coco(store: LabelStore, tmp_path: Path, segmentation: str) -> None:
    from supervision import DetectionDataset

    output = exported(store, tmp_path, "coco", segmentation, "instances.json")
    dataset = DetectionDataset.from_coco(str(output.parent / "images"), str(output), force_masks=True)
    found: Masks = [mask for _, _, detections in dataset if detections.mask is not None for mask in detections.mask]
    tell("coco", segmentation, "supervision", worst_iou(store, found))
    assert worst_iou(store, found) == 1.0
    assert dataset.classes == ["cat", "dog"]


def test_supervision_reads_yolo(store: LabelStore, tmp_path: Path) -> None:
    from supervision import DetectionDataset

    output = exported(store, tmp_path, "yolo", "")
    dataset = DetectionDataset.from_yolo(
        str(output / "images"), str(output / "labels"), str(output / "data.yaml"), force_masks=True
    )
    found: Masks = [mask for _, _, detections in dataset if detections.mask is not None for mask in detections.mask]
    tell("yolo", "", "supervision", worst_iou(store, found))
    assert len(dataset) == 3
    assert len(found) == len(shapes()) + 1
    assert dataset.classes == ["cat", "dog"]


def test_pillow_reads_label_maps(store: LabelStore, tmp_path: Path) -> None:
    output = exported(store, tmp_path, "entity-png", "", images=None)
    values = np.asarray(Image.open(output / "shapes" / "all.png.png"))
    found: Masks = [values == number for number in range(1, int(values.max()) + 1)]
    portrait = np.asarray(Image.open(output / "portrait.jpg.png"))
    iou = worst_iou(store, [*found, portrait == 1])
    tell("entity-png", "", "Pillow", iou)
    assert iou == 1.0


def read_by(environment: str, tool: str, path: Path) -> tuple[list[str], Masks, list[str]]:
    """Images, masks and the masks' ids that a tool finds in an export."""
    command = [str(python_of(environment)), str(READ_EXPORT), tool, str(path)]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(command, capture_output=True, text=True, env=plain, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    masks = [
        np.repeat(np.arange(len(item["runs"])) % 2 == 1, item["runs"]).reshape(item["size"])
        for items in found.values()
        for item in items
    ]
    return list(found), masks, [item["id"] for items in found.values() for item in items if item["id"]]


EXACT = [
    ("coco", "rle", "datasets", "datumaro-coco", "annotations/instances_default.json", ""),
    ("coco", "uncompressed", "datasets", "datumaro-coco", "annotations/instances_default.json", ""),
    ("coco-panoptic", "", "datasets", "datumaro-panoptic", "", ""),
    ("cvat", "", "datasets", "datumaro-cvat", "annotations.xml", ""),
    ("voc", "", "datasets", "datumaro-voc", "", ""),
    ("label-studio", "bitmask", "datasets", "label-studio-sdk", "tasks.json", "tasks.json"),
    ("label-studio", "brush", "datasets", "label-studio-sdk", "tasks.json", "tasks.json"),
    ("labelme", "", "tools", "labelme", "", ""),
    ("x-anylabeling", "", "tools", "x-anylabeling", "", ""),
    ("fiftyone", "", "fiftyone", "fiftyone", "", ""),
]
WITH_IDS = {"cvat", "fiftyone", "label-studio", "labelme", "x-anylabeling"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "segmentation", "environment", "tool", "file", "pointed"), EXACT)
def test_a_tool_reads_every_mask_exactly(
    store: LabelStore,
    tmp_path: Path,
    name: str,
    segmentation: str,
    environment: str,
    tool: str,
    file: str,
    pointed: str,
) -> None:
    exported(store, tmp_path, name, segmentation, file)
    (tmp_path / "export" / "images").mkdir(exist_ok=True)  # datumaro's COCO reader wants the folder to be there
    images, found, ids = read_by(environment, tool, tmp_path / "export" / pointed)
    tell(name, segmentation, tool, worst_iou(store, found))
    assert worst_iou(store, found) == 1.0
    assert len(found) == len(stored_masks(store))
    assert len(images) == 3
    if name in WITH_IDS:
        assert set(ids) == stored_masks(store).keys()


@pytest.mark.slow
def test_label_studio_polygons_are_valid_and_make_up_the_masks(store: LabelStore, tmp_path: Path) -> None:
    exported(store, tmp_path, "label-studio", "polygon", "tasks.json")
    _, found, ids = read_by("datasets", "label-studio-sdk", tmp_path / "export" / "tasks.json")
    whole: dict[str, NDArray[np.bool_]] = {}
    for mask, mask_id in zip(found, ids, strict=True):
        key = mask_id.partition("-")[0]
        whole[key] = whole.get(key, np.zeros_like(mask)) | mask
    tell("label-studio", "polygon", "label-studio-sdk", worst_iou(store, list(whole.values())))
    assert worst_iou(store, list(whole.values())) == 1.0
    assert whole.keys() == stored_masks(store).keys()


@pytest.mark.slow
def test_label_studio_converts_coco_polygons(store: LabelStore, tmp_path: Path) -> None:
    output = exported(store, tmp_path, "coco", "polygon", "instances.json", images=None)
    images, found, _ = read_by("datasets", "label-studio-coco", output)
    tell("coco", "polygon", "label-studio-sdk (one region a part)", worst_iou(store, found))
    assert len(images) == 3
    assert found


@pytest.mark.slow
def test_x_anylabeling_imports_coco_polygons(store: LabelStore, tmp_path: Path) -> None:
    output = exported(store, tmp_path, "coco", "polygon", "instances.json", images=None)
    _, found, _ = read_by("tools", "x-anylabeling-coco", output)
    iou = worst_iou(store, found)
    tell("coco", "polygon", "x-anylabeling (opens the cuts into holes)", iou)
    assert iou > 0.9
