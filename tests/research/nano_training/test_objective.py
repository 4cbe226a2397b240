from __future__ import annotations

import torch

from everymask.backbone.nano.decoder import DecoderOutput
from everymask.backbone.nano.tokens import SHAPE_NUMBERS, TREE_PLANES, CellTokens
from everymask.research.nano_training.objective import Batch, ObjectiveConfig, collate, losses
from everymask.research.nano_training.samples import Sample

WHOLE, PART = [1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]


def two_annotators() -> Sample:
    """Four cells of one size; one annotator drew cells 0 to 2 as one segment, another cell 0 alone."""
    tokens = CellTokens(
        torch.zeros(4, 8), torch.zeros(4, SHAPE_NUMBERS), torch.zeros(TREE_PLANES, 4, 4, dtype=torch.uint8)
    )
    return Sample(tokens, torch.full((4,), 0.25), torch.tensor([WHOLE, PART], dtype=torch.float16))


def batch(cells: list[int], segments: list[int]) -> Batch:
    return collate([two_annotators()], [(torch.tensor(cells), torch.tensor(segments))])


def mask_loss(drawn: Batch, first: list[float], second: list[float], config: ObjectiveConfig) -> float:
    """The loss of one prompt whose outputs are sure of `first`, `second` and of nothing."""
    logits = (torch.tensor([first, second, [0.0] * 4]) - 0.5) * 20
    answer = DecoderOutput(logits[None, None], torch.full((1, 1, 3), 0.5), torch.zeros(1, 1, 3, 2))
    return float(losses(answer, drawn, config)["mask"])


def test_a_segment_is_largest_where_no_annotator_drew_a_larger_one() -> None:
    assert batch([0, 0, 2], [0, 1, 0]).largest.tolist() == [[True, False, True]]


def test_the_first_output_is_for_whole_objects_and_free_for_parts() -> None:
    config = ObjectiveConfig(others=0.0, object_level=0.3)
    whole, part = batch([0], [0]), batch([0], [1])
    assert mask_loss(whole, WHOLE, PART, config) < 0.01 < mask_loss(whole, PART, WHOLE, config)
    assert mask_loss(part, WHOLE, PART, config) < 0.01
    indifferent = ObjectiveConfig(others=0.0, object_level=0.0)
    assert mask_loss(whole, PART, WHOLE, indifferent) < 0.01
