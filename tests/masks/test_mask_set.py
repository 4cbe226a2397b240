from __future__ import annotations

import pytest
import torch

from everymask.backbone.protocol import PromptMasks
from everymask.masks.mask_set import Level, MaskSet


def answers() -> PromptMasks:
    logits = torch.tensor(
        [
            [[1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [1.0, 1.0, -1.0]],
            [[2.0, 2.0, -2.0], [-2.0, 2.0, 2.0], [-2.0, -2.0, -2.0]],
        ]
    )
    return PromptMasks(
        logits=logits,
        predicted_iou=torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]),
        tokens=torch.arange(12, dtype=torch.float32).reshape(2, 3, 2),
        point_coords=torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    )


def test_levels_rank_by_weighted_area_and_ties_keep_the_models_order() -> None:
    masks = MaskSet.from_prompts(answers(), torch.tensor([1.0, 5.0, 5.0]))
    assert masks.level.tolist() == [
        *(Level.SUBPART, Level.OBJECT, Level.PART),
        *(Level.PART, Level.OBJECT, Level.SUBPART),
    ]
    tied = MaskSet.from_prompts(answers(), torch.tensor([5.0, 1.0, 5.0]))
    assert tied.level[3:].tolist() == [Level.OBJECT, Level.PART, Level.SUBPART]


def test_indexing_and_concatenating_keep_every_field_in_step() -> None:
    masks = MaskSet.from_prompts(answers(), torch.ones(3))
    chosen = masks[torch.tensor([4, 0])]
    assert chosen.predicted_iou.tolist() == pytest.approx([0.5, 0.1])
    assert chosen.point_coords.tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert chosen.tokens.tolist() == [[8.0, 9.0], [0.0, 1.0]]
    assert chosen.masks.tolist() == [[False, True, True], [True, False, False]]
    both = MaskSet.concatenate([chosen, masks[masks.predicted_iou > 0.55]])
    assert len(both) == 3
    assert both.predicted_iou.tolist() == pytest.approx([0.5, 0.1, 0.6])


def test_no_prompt_gives_an_empty_set() -> None:
    none = answers()
    empty = PromptMasks(none.logits[:0], none.predicted_iou[:0], none.tokens[:0], none.point_coords[:0])
    assert len(MaskSet.from_prompts(empty, torch.ones(3))) == 0


def test_fields_of_different_lengths_are_refused() -> None:
    masks = MaskSet.from_prompts(answers(), torch.ones(3))
    with pytest.raises(ValueError, match="one row a mask"):
        MaskSet(**{**masks.__dict__, "level": masks.level[:2]})
