from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from everymask.backbone.points import point_grid
from everymask.backbone.protocol import Canvas
from everymask.entities.config import EntityConfig
from everymask.entities.prompting import PromptAnswers, decode_batches
from everymask.masks.mask_set import MaskSet
from tests.entities.scripted import Reply, ScriptedBackbone, painted, rectangle

SIZE = (6, 8)


def test_the_grid_is_segment_anythings() -> None:
    from segment_anything.utils.amg import build_point_grid

    expected = torch.from_numpy(build_point_grid(5)).to(torch.float32) * torch.tensor([80.0, 30.0])
    torch.testing.assert_close(point_grid((30, 80), 5), expected)


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_batches_answer_every_point_in_order(batch: int) -> None:
    left, right = rectangle(SIZE, 0, 0, 4, 6), rectangle(SIZE, 4, 0, 8, 6)
    backbone = ScriptedBackbone([Reply.one(left), Reply.one(right)], painted(SIZE, right))
    embedding = backbone.embed([torch.zeros(*SIZE, 3, dtype=torch.uint8).numpy()])[0]
    points = torch.tensor([[1.0, 1.0], [6.0, 1.0], [2.0, 2.0], [7.0, 3.0], [0.0, 0.0]])
    batches = decode_batches(backbone, embedding, points, EntityConfig(points_per_batch=batch))
    answers = MaskSet.concatenate([one.take(np.arange(len(one.packed))) for one in batches])
    expected = torch.from_numpy(left).flatten(), torch.from_numpy(right).flatten()
    for position, side in enumerate([0, 1, 0, 1, 0]):
        assert all(torch.equal(mask, expected[side]) for mask in answers.masks[3 * position : 3 * position + 3])
    assert answers.point_coords[::3].tolist() == points.tolist()


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = ScriptedBackbone([Reply.one(rectangle(SIZE, 0, 0, 2, 2))], painted(SIZE))
    embedding = backbone.embed([torch.zeros(*SIZE, 3, dtype=torch.uint8).numpy()])[0]
    decode, sizes = backbone.decode_points, []

    def decode_in_little_memory(embedding: Any, points: torch.Tensor) -> Any:
        sizes.append(len(points))
        if len(points) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(embedding, points)

    monkeypatch.setattr(backbone, "decode_points", decode_in_little_memory)
    points = torch.arange(10.0).view(5, 2)
    batches = list(decode_batches(backbone, embedding, points, EntityConfig()))
    assert sizes == [5, 2, 2, 1]
    assert torch.equal(torch.cat([one.prompts.point_coords for one in batches]), points)


def test_no_point_gives_no_mask() -> None:
    backbone = ScriptedBackbone([Reply.one(rectangle(SIZE, 0, 0, 2, 2))], painted(SIZE))
    embedding = backbone.embed([torch.zeros(*SIZE, 3, dtype=torch.uint8).numpy()])[0]
    (answers,) = decode_batches(backbone, embedding, torch.zeros(0, 2), EntityConfig())
    assert len(answers.packed) == len(answers.best()) == len(answers.guidance(EntityConfig())) == 0


def answers_of(*answers: Reply) -> Any:
    backbone = ScriptedBackbone(answers, np.arange(48).reshape(SIZE) % len(answers))
    embedding = backbone.embed([np.zeros((*SIZE, 3), dtype=np.uint8)])[0]
    points = torch.tensor([[index + 0.5, 0.5] for index in range(len(answers))])
    (found,) = decode_batches(backbone, embedding, points, EntityConfig())
    return found


def test_the_first_of_equally_confident_masks_is_the_best() -> None:
    one = rectangle(SIZE, 0, 0, 2, 2)
    answers = answers_of(Reply((one,) * 3, (0.3, 0.9, 0.9)), Reply((one,) * 3, (0.5, 0.5, 0.5)))
    assert answers.best().tolist() == [1, 3]


def test_a_confident_mask_of_one_pixel_counts_and_an_empty_one_does_not() -> None:
    one, none, all_of_it = rectangle(SIZE, 3, 2, 4, 3), np.zeros(SIZE, dtype=np.bool_), np.ones(SIZE, dtype=np.bool_)
    answers = answers_of(Reply((one, none, all_of_it), (0.8, 0.8, 0.7)))
    config = EntityConfig(pred_iou_thresh=0.75, stability_score_thresh=0.0)
    assert answers.confident(np.arange(3), config, "scripted").tolist() == [0]


def test_levels_and_stability_are_those_of_a_mask_set() -> None:
    masks = (rectangle(SIZE, 0, 0, 2, 2), rectangle(SIZE, 0, 0, 8, 6), rectangle(SIZE, 0, 0, 2, 2))
    answers = answers_of(Reply(masks), Reply(masks[::-1]))
    expected = MaskSet.from_prompts(answers.prompts, torch.ones(SIZE[0] * SIZE[1]))
    assert answers.level.tolist() == expected.level.tolist() == [1, 0, 2, 1, 0, 2]
    rows = np.arange(6)
    assert answers.stability_score.tolist() == expected.stability_score.tolist()
    assert answers.take(rows).stability_score.tolist() == expected.stability_score.tolist()
    assert answers.take(rows).level.tolist() == expected.level.tolist()


def test_logits_are_kept_within_what_half_precision_holds() -> None:
    answers = answers_of(Reply.one(rectangle(SIZE, 0, 0, 2, 2)))
    huge = replace(answers, prompts=replace(answers.prompts, logits=answers.prompts.logits * 1e5))
    assert huge.take(np.arange(3)).logits.unique().tolist() == [-100.0, 100.0]
    assert answers.take(np.arange(3)).logits.unique().tolist() == [-8.0, 8.0]


def test_a_cell_is_inside_however_unsure_the_model_is_of_it() -> None:
    """Logits of an eighth on both sides of 0: masks begin above 0, not where the model is sure."""
    left = rectangle(SIZE, 0, 0, 4, 6)
    sure = answers_of(Reply.one(left))
    faint = PromptAnswers.of(
        replace(sure.prompts, logits=sure.prompts.logits / 64),
        Canvas(torch.arange(48).view(SIZE), torch.ones(48), SIZE),
        1.0,
    )
    assert faint.packed.areas.tolist() == [24] * 3
    assert faint.take(np.arange(1)).masks.view(SIZE).tolist() == left.tolist()
    assert faint.stability_score.tolist() == [0.0] * 3
