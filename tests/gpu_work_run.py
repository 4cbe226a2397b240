"""What a GPU is asked to do for an image, counted on a pretend one; prints one JSON object.

    python -m tests.gpu_work_run 32

The number is of points along each side of the grid; E-SAM's gallery has twice as many. It changes torch, so it runs in
a process of its own.
"""

from __future__ import annotations

import json
import sys
from typing import Literal

import numpy as np
import torch

from everymask.backbone.points import point_grid
from everymask.backbone.protocol import ImageEmbedding, PromptMasks
from everymask.backbone.sam import build_sam
from everymask.backbone.sam import make_backbone as make_sam
from everymask.backbone.sam.backbone import SamBackbone
from everymask.backbone.sam2 import build_sam2
from everymask.backbone.sam2 import make_backbone as make_sam2
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_embedding
from everymask.records import ImageLabels
from everymask.research.oracle import LIKE_SAM, OracleBackbone, drawn_scene
from tests.pretend_gpu import DEVICE, PretendGpu, work
from tests.tiny_sam import TINY
from tests.tiny_sam2 import TINY as TINY_2

SCENE = drawn_scene(25, (150, 200))
SIZE_HW = (48, 80)


class UncountedOracle(OracleBackbone):
    """Its answers are computed on the device like a model's, but only what is made of them is counted.

    Attributes:
        batches: prompts of each call.
    """

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        self.batches = [*getattr(self, "batches", []), len(point_coords)]
        work.paused = True
        try:
            return super().decode_points(embedding, point_coords)
        finally:
            work.paused = False


def counted() -> dict[str, int]:
    """What was counted since the last call."""
    found = {"kernels": work.kernels.total(), "waits": work.waits.total(), "uploads": work.uploads.total()}
    work.clear()
    return found


def of_a_decoder(backbone: SamBackbone) -> dict[str, int]:
    """A batch of prompts after the first on an image."""
    (embedding,) = backbone.embed([np.full((*SIZE_HW, 3), 90, dtype=np.uint8)])
    points = point_grid(SIZE_HW, 3, DEVICE)
    backbone.decode_points(embedding, points)
    counted()
    backbone.decode_points(embedding, points)
    return counted()


def labels_of(device: str, method: Literal["entities", "amg"], side: int) -> tuple[ImageLabels, list[int]]:
    entities = EntityConfig(points_per_side=side, gallery_points_per_side=2 * side)
    config = LabelConfig(method, entities, AmgConfig(points_per_side=side))
    backbone = UncountedOracle([SCENE], LIKE_SAM, device=device)
    (embedding,) = backbone.embed([SCENE.image])
    counted()
    return label_embedding(backbone, embedding, config, None), backbone.batches


def of_a_method(method: Literal["entities", "amg"], side: int) -> dict[str, object]:
    """What is done beside the model, and whether the labels are those of a CPU."""
    with PretendGpu():
        labels, batches = labels_of("cuda:0", method, side)
    found = counted()
    expected, _ = labels_of("cpu", method, side)
    return {**found, "batches": batches, "masks": len(labels.masks), "equal": labels == expected}


if __name__ == "__main__":
    torch.set_num_threads(1)
    side = int(sys.argv[1])
    result: dict[str, object] = {}
    with PretendGpu():
        result["sam"] = of_a_decoder(make_sam(build_sam(TINY, 0), name="vit_b", weights_sha256="0" * 64, device=DEVICE))
        result["sam2"] = of_a_decoder(
            make_sam2(build_sam2(TINY_2, 0), name="sam2.1_tiny", weights_sha256="0" * 64, device=DEVICE)
        )
    result |= {"entities": of_a_method("entities", side), "amg": of_a_method("amg", side)}
    print(json.dumps(result))
