from __future__ import annotations

import numpy as np
import pytest

from everymask.backbone.protocol import ImageEmbedding
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.entities.mmg import automatic_masks
from everymask.masks.mask_set import Level
from everymask.masks.rle import decode_mask
from tests.entities.scenes import pixels
from tests.entities.scripted import Reply, ScriptedBackbone, painted, rectangle

SIZE = (20, 40)
WHOLE, LEFT, SPOT = rectangle(SIZE, 0, 0, 40, 20), rectangle(SIZE, 0, 0, 20, 20), rectangle(SIZE, 2, 2, 8, 8)
NEARLY_LEFT, RIGHT = rectangle(SIZE, 0, 0, 19, 20), rectangle(SIZE, 22, 0, 40, 20)
ANSWERS = [
    Reply((WHOLE, LEFT, SPOT), (0.9, 0.95, 0.92)),
    Reply((WHOLE, NEARLY_LEFT, SPOT), (0.91, 0.93, 0.5)),
    Reply((RIGHT, RIGHT, RIGHT), (0.99, 0.7, 0.6)),
]


def backbone_and_embedding() -> tuple[ScriptedBackbone, ImageEmbedding]:
    backbone = ScriptedBackbone(ANSWERS, painted(SIZE, SPOT, RIGHT))
    return backbone, backbone.embed([np.zeros((*SIZE, 3), dtype=np.uint8)])[0]


def test_the_masks_are_those_of_amg() -> None:
    backbone, embedding = backbone_and_embedding()
    masks, grid = automatic_masks(backbone, embedding, EntityConfig())
    expected = [decode_mask(mask.rle) for mask in segment_amg(backbone, embedding, AmgConfig()).masks]
    np.testing.assert_array_equal(pixels(masks.masks, SIZE), expected)
    np.testing.assert_array_equal(expected, [RIGHT, LEFT, SPOT, WHOLE])
    assert len(grid.masks) == 3 * (grid.answer.max() + 1)


def test_the_object_level_leaves_out_parts() -> None:
    backbone, embedding = backbone_and_embedding()
    objects, _ = automatic_masks(backbone, embedding, EntityConfig(), (Level.OBJECT,))
    np.testing.assert_array_equal(pixels(objects.masks, SIZE), [RIGHT, WHOLE])


@pytest.mark.parametrize(("width", "masks"), [(19, 1), (15, 1), (13, 2), (10, 2)])
def test_of_two_masks_whose_boxes_have_an_iou_above_seven_tenths_the_better_stays(width: int, masks: int) -> None:
    narrower = rectangle(SIZE, 0, 0, width, 20)  # of LEFT's 20 columns
    backbone = ScriptedBackbone([Reply.one(LEFT, 0.95), Reply.one(narrower, 0.9)], painted(SIZE, SPOT))
    embedding = backbone.embed([np.zeros((*SIZE, 3), dtype=np.uint8)])[0]
    found, _ = automatic_masks(backbone, embedding, EntityConfig())
    np.testing.assert_array_equal(pixels(found.masks, SIZE), [LEFT, narrower][:masks])
    assert len(segment_amg(backbone, embedding, AmgConfig()).masks) == masks


def test_no_mask_passes() -> None:
    backbone, embedding = backbone_and_embedding()
    assert len(automatic_masks(backbone, embedding, EntityConfig(pred_iou_thresh=1.0))[0]) == 0
