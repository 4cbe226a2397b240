"""What `examples/training/segmenter.py` has learnt from an export."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import SegformerForSemanticSegmentation

from tests.machine import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "examples" / "training"))

from segmenter import class_map, pixels, rows


def agreement(model: Path, export: Path, splits: Sequence[str], side: int) -> tuple[float, float]:
    """How far a model's answers are those of the labels, on the images of some splits.

    Returns:
        the share of pixels, at `side`, that get the class of the labels, and the share that would if all got the most
        frequent one.
    """
    trained = SegformerForSemanticSegmentation.from_pretrained(str(model)).eval()
    right, frequent = 0, np.zeros(len(trained.config.id2label), dtype=np.int64)
    columns = ["image", "masks", "objects"]
    for batch in (batch for split in splits for batch in rows(str(export), split, 16, columns)):
        with torch.inference_mode():
            logits = trained(pixel_values=torch.stack([pixels(row["image"], side) for row in batch])).logits
        found = functional.interpolate(logits, (side, side), mode="bilinear").argmax(dim=1)
        wanted = torch.stack([class_map(row, side) for row in batch])
        right += int((found == wanted).sum())
        frequent += np.bincount(wanted.numpy().ravel(), minlength=len(frequent))
    return right / int(frequent.sum()), float(frequent.max() / frequent.sum())
