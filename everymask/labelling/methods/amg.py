"""SAM's automatic masks, which may overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everymask.backbone.protocol import PromptableBackbone
from everymask.entities.amg import segment_amg
from everymask.entities.crops import Crop, make_crops, segment_amg_on_crops
from everymask.labelling.config import LabelConfig
from everymask.labelling.methods.method import Method
from everymask.labelling.tiles import make_tiles
from everymask.records import ImageLabels


def _in_parts(backbone: PromptableBackbone, image: NDArray[np.uint8], config: LabelConfig) -> ImageLabels:
    """Label by SAM's own crops, or by tiles in their place."""
    size_hw = (image.shape[0], image.shape[1])
    crops = None
    if config.tiles > 1:
        crops = [*make_crops(size_hw, 0, 0.0), *(Crop(1, tile) for tile in make_tiles(size_hw, config.tiles))]
    return segment_amg_on_crops(backbone, image, config.amg, crops)


METHOD = Method(
    lambda backbone, embedding, config, head: segment_amg(backbone, embedding, config.amg),
    has_crops=lambda config: config.amg.crop_n_layers > 0,
    segment_in_parts=_in_parts,
)
