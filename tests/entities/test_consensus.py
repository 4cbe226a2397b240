from __future__ import annotations

import numpy as np
import pytest
import torch

from everymask.entities.config import EntityConfig
from everymask.entities.consensus import GridAnswers
from everymask.entities.prompting import decode_grid
from everymask.masks.packed import PackedMasks
from tests.entities.scripted import Reply, ScriptedBackbone, painted, rectangle

SIZE = (8, 16)
WHOLE, LEFT, RIGHT = (rectangle(SIZE, start, 0, stop, 8) for start, stop in ((0, 16), (0, 8), (8, 16)))
NEARLY_LEFT, SPOT = rectangle(SIZE, 0, 0, 6, 8), rectangle(SIZE, 0, 0, 1, 1)


def consensus(
    masks: list[np.ndarray], *answers: Reply, regions: tuple[np.ndarray, ...] = (), objects_only: bool = False
) -> list[float]:
    """Of masks, with a grid of 4 x 4 clicks: the consensus of each."""
    backbone = ScriptedBackbone(answers, painted(SIZE, *regions))
    embedding = backbone.embed([np.zeros((*SIZE, 3), dtype=np.uint8)])[0]
    batches = decode_grid(backbone, embedding, EntityConfig(points_per_side=4, points_per_batch=1))
    grid = GridAnswers.gather(backbone, embedding, 4, [batch.packed for batch in batches])
    packed = PackedMasks.pack(torch.from_numpy(np.stack(masks)).flatten(1), embedding.canvas.cell_area)
    return grid.consensus(packed, objects_only).tolist()


@pytest.mark.parametrize(("objects_only", "left"), [(False, 9 / 10), (True, 1 / 10)])
def test_clicks_that_give_the_mask_are_for_it(objects_only: bool, left: float) -> None:
    answers = [Reply((WHOLE, LEFT, SPOT)), Reply.one(RIGHT)]
    found = consensus([LEFT, RIGHT, WHOLE], *answers, regions=(RIGHT,), objects_only=objects_only)
    # Eight clicks in each half, and one more for each mask and one against it.
    assert found == pytest.approx([left, 9 / 10, 9 / 18])


def test_similar_answers_count_and_clicks_outside_do_not() -> None:
    assert consensus([LEFT], Reply.one(NEARLY_LEFT), Reply.one(SPOT), regions=(RIGHT,)) == pytest.approx([9 / 10])
    assert consensus([RIGHT], Reply.one(SPOT), Reply.one(RIGHT), regions=(LEFT,)) == pytest.approx([1 / 10])


def test_a_mask_that_no_click_hits_is_as_likely_as_not() -> None:
    assert consensus([SPOT], Reply.one(SPOT)) == pytest.approx([0.5])
