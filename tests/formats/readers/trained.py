"""Train a tool on an export of a few images and print the masks it then finds. Runs without everymask.

    PYTHON trained.py TOOL EXPORT WORK

Prints {image name: [[class, run lengths of the mask in row-major order, background first], …]}.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "training"
SIDE = 128
Found = dict[str, list[tuple[int, list[int]]]]


def runs(mask: NDArray[Any]) -> list[int]:
    """Row-major run lengths, background first."""
    flat = np.concatenate([[False], np.asarray(mask, dtype=bool).ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(run) for run in np.diff(np.concatenate([[0], edges, [mask.size]]))]


def ultralytics(export: Path, work: Path) -> Found:
    """`yolo segment train` of a model without weights, started from the root folder."""
    from ultralytics import YOLO, settings

    settings.update({"runs_dir": str(work), "datasets_dir": str(work), "weights_dir": str(work)})
    model = YOLO("yolo11n-seg.yaml")
    plain = dict.fromkeys(("mosaic", "fliplr", "hsv_h", "hsv_s", "hsv_v", "scale", "translate", "erasing"), 0.0)
    # By default Ultralytics gathers 64 images before it takes a step: with eight it would learn next to nothing.
    options: dict[str, Any] = {"optimizer": "AdamW", "lr0": 0.003, "lrf": 0.1, "warmup_epochs": 3.0, "amp": False}
    options["nbs"] = 8
    model.train(
        **{"data": str(export / "data.yaml"), "epochs": 200, "imgsz": SIDE, "batch": 8, "workers": 0, "device": "cpu"},
        **{"val": False, "plots": False, "project": str(work), "name": "train", "exist_ok": True, "seed": 0},
        **{"mask_ratio": 1, "overlap_mask": True, "verbose": False, "patience": 0},
        **plain,
        **options,
    )
    trained = YOLO(str(work / "train" / "weights" / "last.pt"))
    found: Found = {}
    for path in sorted((export / "images" / "train").iterdir()):
        (result,) = trained.predict(str(path), imgsz=SIDE, conf=0.25, retina_masks=True, verbose=False)
        masks = [] if result.masks is None else result.masks.data.numpy() > 0.5
        found[path.name] = [(int(label), runs(mask)) for label, mask in zip(result.boxes.cls, masks, strict=True)]
    return found


def ultralytics_reader(export: Path, work: Path) -> Found:
    """What Ultralytics draws before it trains: the data set is looked for from the root folder."""
    from ultralytics.data.utils import check_det_dataset, polygon2mask, verify_image_label

    folder = Path(check_det_dataset(str(export / "data.yaml"), autodownload=False)["train"])
    assert folder == export / "images" / "train"
    found: Found = {}
    for path in sorted(folder.iterdir()):
        label = export / "labels" / "train" / f"{path.stem}.txt"
        _, boxes, shape, segments, *_ = verify_image_label((str(path), str(label), "", False, 2, 0, 0, False))
        masks = [polygon2mask(shape, [(segment * shape[::-1]).reshape(-1)]) for segment in segments]
        found[path.name] = [(int(box[0]), runs(mask)) for box, mask in zip(boxes, masks, strict=True)]
    return found


def mask_rcnn(export: Path, work: Path) -> Found:
    """The documented script, then its model on the same images."""
    from PIL import Image
    from torchvision.transforms.functional import to_tensor

    # With the usual 512 regions of each image an epoch takes a minute of CPU time, twice as long.
    options = ["--output", str(work / "model.pt"), "--epochs", "60", "--side", str(SIDE), "--learning-rate", "0.0005"]
    options += ["--regions", "32"]
    subprocess.run([sys.executable, str(EXAMPLES / "mask_rcnn.py"), str(export), *options], check=True)
    model = torch.load(work / "model.pt", weights_only=False)
    content = json.loads((export / "annotations" / "instances_train.json").read_text())
    found: Found = {}
    for image in content["images"]:
        with torch.no_grad():
            (result,) = model([to_tensor(Image.open(export / "train" / image["file_name"]))])
        kept = result["scores"] > 0.5
        found[image["file_name"]] = [
            (int(label) - 1, runs(mask[0].numpy() > 0.5))
            for label, mask in zip(result["labels"][kept], result["masks"][kept], strict=True)
        ]
    return found


def segformer(export: Path, work: Path) -> Found:
    """The documented script, then a class map of each image: one mask a class."""
    from datasets import load_dataset
    from transformers import SegformerForSemanticSegmentation

    sys.path.insert(0, str(EXAMPLES))
    from segmenter import pixels

    options = ["--output", str(work / "model"), "--epochs", "80", "--side", str(SIDE), "--batch-size", "8"]
    subprocess.run([sys.executable, str(EXAMPLES / "segmenter.py"), str(export), *options], check=True)
    model = SegformerForSemanticSegmentation.from_pretrained(str(work / "model")).eval()
    found: Found = {}
    for row in load_dataset(str(export), split="train"):
        with torch.no_grad():
            logits = model(pixel_values=pixels(row["image"], SIDE)[None]).logits
        size = (row["height"], row["width"])
        values = torch.nn.functional.interpolate(logits, size, mode="bilinear").argmax(dim=1)[0].numpy()
        found[row["image_id"]] = [(int(value) - 1, runs(values == value)) for value in np.unique(values[values > 0])]
    return found


TOOLS = {
    "ultralytics": ultralytics,
    "ultralytics_reader": ultralytics_reader,
    "mask_rcnn": mask_rcnn,
    "segformer": segformer,
}

if __name__ == "__main__":
    torch.set_num_threads(2)
    print("\n" + json.dumps(TOOLS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))))
