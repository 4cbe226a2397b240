"""What a method is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.classes.head import ClassHead
from everymask.labelling.config import LabelConfig
from everymask.labelling.tiles import Box, join_overlapping, join_tiles, label_in_tiles
from everymask.records import ImageLabels, LabelledMask


@dataclass(frozen=True)
class Method:
    """How images are labelled; what is left out is as for E-SAM.

    Attributes:
        segment: masks of any size of an embedded image.
        load: loads what it needs beside the backbone and the head; raises ConfigurationError or CheckpointError where
            it cannot.
        needs_picture: whether it looks at the picture beside its embedding.
        class_names: the classes its masks may have; None where they have none.
        every_mask: the same settings with no least score of a mask: AP is measured over all of them.
        settle: what becomes of masks that repeat each other, given those of a picture (height, width) and of its tiles
            together; None where masks are disjoint.
        has_crops: whether it cuts pictures into parts of its own.
        segment_in_parts: labels an (H, W, 3) uint8 RGB image by a partition of its own; None: by tiles.
    """

    segment: Callable[[PromptableBackbone, ImageEmbedding, LabelConfig, ClassHead | None], ImageLabels]
    load: Callable[[LabelConfig, PromptableBackbone], object] | None = None
    needs_picture: Callable[[LabelConfig, ClassHead | None], bool] = lambda config, head: False
    class_names: Callable[[LabelConfig, ClassHead | None], tuple[str, ...] | None] = lambda config, head: None
    every_mask: Callable[[LabelConfig], LabelConfig] = lambda config: config
    settle: Callable[[Sequence[LabelledMask], tuple[int, int], LabelConfig, ClassHead | None], ImageLabels] | None = (
        None
    )
    has_crops: Callable[[LabelConfig], bool] = lambda config: False
    segment_in_parts: Callable[[PromptableBackbone, NDArray[np.uint8], LabelConfig], ImageLabels] | None = None

    def segment_tiles(
        self,
        image: NDArray[np.uint8],
        config: LabelConfig,
        head: ClassHead | None,
        segment_tile: Callable[[NDArray[np.uint8]], ImageLabels],
    ) -> ImageLabels:
        """Masks of an (H, W, 3) uint8 RGB image and of its tiles, joined."""

        def join(whole: ImageLabels, tiles: Sequence[Box], found: Sequence[ImageLabels]) -> ImageLabels:
            if self.settle is None:
                return join_tiles(whole, tiles, found)
            settled = self.settle(join_overlapping(whole, tiles, found), whole.size_hw, config, head)
            return replace(settled, missed=whole.missed, presence=_most_present([whole, *found]))

        return label_in_tiles(image, config.tiles, segment_tile, join)


def _most_present(parts: Sequence[ImageLabels]) -> tuple[float, ...] | None:
    """A class is as surely in a picture as in the part that shows it best."""
    known = [labels.presence for labels in parts if labels.presence is not None]
    return tuple(map(max, *known)) if len(known) > 1 else None
