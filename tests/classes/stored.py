"""Mask embeddings as they are kept, of pictures of the small backbone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.embeddings import (
    StoredEmbeddings,
)
from everymask.classes.segmenter import describe_masks
from tests.classes.toy import ColourBackbone

CONFIG = MaskConfig(points_per_side=8)


def record(image_id: str, image: NDArray[np.uint8], backbone: ColourBackbone | None = None) -> StoredEmbeddings:
    backbone = backbone or ColourBackbone()
    embeddings = describe_masks(backbone, backbone.embed([image])[0], ClassesConfig(masks=CONFIG))
    return StoredEmbeddings(image_id, f"/images/{image_id}", "0" * 64, embeddings)
