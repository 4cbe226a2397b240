"""Galleries on a small canvas, whose answers are drawn by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.entities.config import EntityConfig
from everymask.entities.gallery import Gallery
from tests.entities.scripted import ScriptedBackbone, painted, rectangle

SIZE = (20, 40)


def box(x0: int, x1: int, y0: int = 0, y1: int = 20) -> NDArray[np.bool_]:
    return rectangle(SIZE, x0, y0, x1, y1)


def gallery_of(answers: Any, *regions: NDArray[np.bool_], config: EntityConfig | None = None) -> Gallery:
    """Answer 0 outside the regions, answer i + 1 on region i."""
    backbone = ScriptedBackbone(answers, painted(SIZE, *regions))
    embedding = backbone.embed([np.zeros((*SIZE, 3), dtype=np.uint8)])[0]
    return Gallery(backbone, embedding, config or EntityConfig(gallery_points_per_side=20, pred_iou_thresh=0.0))
