"""Trainers learn the masks that were stored: each overfits eight images, and is held against the store.

Minutes each, in an environment of their own (`make readers`), with random weights. A falling loss would pass on wrong
masks, too; an IoU with the store does not.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from everymask.files.addresses import AddressPolicy
from everymask.formats.splits import SplitOptions
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import decode_mask
from everymask.records import ImageLabels
from tests.formats.exporting import run_export
from tests.formats.readers.environments import python_of
from tests.labels.examples import mask_record

TRAINED = Path(__file__).parent / "trained.py"
SIDE = 128


def ring(y: NDArray[np.int64], x: NDArray[np.int64], centre: tuple[int, int]) -> NDArray[np.bool_]:
    """A thick ring."""
    distance = np.hypot(y - centre[0], x - centre[1])
    return (distance < 26) & (distance > 10)


def box(y: NDArray[np.int64], x: NDArray[np.int64], corner: tuple[int, int]) -> NDArray[np.bool_]:
    """An L, so that its box says little."""
    top, left = corner
    inside = (y >= top) & (y < top + 44) & (x >= left) & (x < left + 44)
    return inside & ~((y < top + 24) & (x >= left + 20))


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    """Eight images of 128 x 128: a red ring and a blue L at places of their own, on noise."""
    y, x = np.mgrid[:SIDE, :SIDE]
    rows = []
    for number in range(8):
        generator = np.random.default_rng(number)
        pixels = generator.integers(90, 140, (SIDE, SIDE, 3), dtype=np.uint8)
        across = 66 * (number % 2)
        masks = [ring(y, x, (32 + 8 * number, 32 + across)), box(y, x, (6 + 9 * number, 72 - across))]
        pixels[masks[0]], pixels[masks[1]] = (220, 40, 40), (40, 60, 230)
        path = tmp_path / "pictures" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
        labels = tuple(mask_record(mask, 0.9 - index / 10, index) for index, mask in enumerate(masks))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append(ImageRow(path.name, str(path), ImageLabels((SIDE, SIDE), labels, 0.2), None, digest))
    store = LabelStore(str(tmp_path / "store"))
    store.write_part(to_table(rows))
    return store


def least_iou(store: LabelStore, found: dict[str, list[tuple[int, list[int]]]]) -> float:
    """The lowest, over stored masks, of the best IoU with a mask of the same class that the trained tool found."""
    worst = 1.0
    for image in store.images():
        assert image.labels is not None
        for mask in image.labels.masks:
            stored = decode_mask(mask.rle)
            best = 0.0
            for class_id, lengths in found[image.image_id]:
                if class_id == mask.class_id:
                    seen = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(SIDE, SIDE)
                    best = max(best, float((seen & stored).sum() / (seen | stored).sum()))
            worst = min(worst, best)
    return worst


def found_by(tool: str, store: LabelStore, tmp_path: Path, format_name: str) -> float:
    """The least IoU of a stored mask with what a tool makes of an export, started from the root folder."""
    (tmp_path / "splits.csv").write_text("image_id,split\n" + "".join(f"{n}.png,train\n" for n in range(8)))
    policy = AddressPolicy(any_local_file=True)
    split = SplitOptions(file=str(tmp_path / "splits.csv"))
    run_export(store, format_name, tmp_path / "export", images="copy", split=split, policy=policy)
    (tmp_path / "work").mkdir()
    command = [str(python_of("trainers")), str(TRAINED), tool, str(tmp_path / "export"), str(tmp_path / "work")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"YOLO_CONFIG_DIR": str(tmp_path / "work"), "YOLO_OFFLINE": "true", "HF_HUB_OFFLINE": "1"}
    environment["HF_HOME"] = str(tmp_path / "work")
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    iou = least_iou(store, json.loads(result.stdout.splitlines()[-1]))
    print(f"\n| {format_name} | {tool} | {iou:.3f} |")
    return iou


@pytest.mark.slow
def test_ultralytics_draws_the_masks_of_the_store(store: LabelStore, tmp_path: Path) -> None:
    assert found_by("ultralytics_reader", store, tmp_path, "yolo") == 1.0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("tool", "format_name"),
    [("ultralytics", "yolo"), ("mask_rcnn", "coco-folders"), ("segformer", "huggingface")],
)
def test_a_trainer_overfits_to_the_masks_of_the_store(
    store: LabelStore, tmp_path: Path, tool: str, format_name: str
) -> None:
    assert found_by(tool, store, tmp_path, format_name) >= 0.8
