from __future__ import annotations

import numpy as np
import pytest

from everymask.entities.config import AmgConfig
from everymask.errors import ConfigurationError
from everymask.evaluation.click_accuracy import ClickPicture
from everymask.evaluation.proposals import proposal_recall
from tests.entities.scripted import Reply, ScriptedBackbone, painted, rectangle

SIZE = (120, 160)
SMALL, LARGE = rectangle(SIZE, 0, 0, 20, 20), rectangle(SIZE, 40, 0, 160, 120)
CONFIG = AmgConfig(points_per_side=16, pred_iou_thresh=0.9, stability_score_thresh=0.9)


def test_recall_by_size_of_all_masks_and_of_those_that_the_generator_keeps() -> None:
    nearly = rectangle(SIZE, 40, 0, 160, 93)  # 0.775 of the large one: right at six of ten thresholds.
    answers = [
        Reply.one(rectangle(SIZE, 150, 0, 160, 10)),
        Reply.one(SMALL, 0.5),  # Not sure enough to be kept.
        Reply.one(nearly),
    ]
    backbone = ScriptedBackbone(answers, painted(SIZE, SMALL, LARGE))
    picture = ClickPicture(np.zeros((*SIZE, 3), dtype=np.uint8), np.stack([SMALL, LARGE]))
    recall = proposal_recall(backbone, [picture], CONFIG)
    raw, kept = recall["raw"], recall["kept"]
    assert raw.recall == pytest.approx((1 + 0.6) / 2)
    assert (raw.small, raw.medium, raw.large) == (1, None, pytest.approx(0.6))
    assert raw.found == 1
    assert kept.recall == pytest.approx((0 + 0.6) / 2)
    assert (kept.small, kept.found) == (0, 0.5)
    assert raw.masks > kept.masks


def test_a_mask_is_right_at_the_threshold_that_its_iou_equals() -> None:
    answer = rectangle(SIZE, 40, 0, 160, 84)  # 0.7 of the large one: right at 0.5, 0.55, 0.6, 0.65 and 0.7.
    backbone = ScriptedBackbone([Reply.one(SMALL), Reply.one(answer)], painted(SIZE, LARGE))
    picture = ClickPicture(np.zeros((*SIZE, 3), dtype=np.uint8), LARGE[None])
    recall = proposal_recall(backbone, [picture], CONFIG)
    assert recall["raw"].recall == recall["kept"].recall == 0.5


def test_ground_truth_without_segments_is_refused() -> None:
    backbone = ScriptedBackbone([Reply.one(SMALL)], painted(SIZE))
    empty = ClickPicture(np.zeros((*SIZE, 3), dtype=np.uint8), np.zeros((0, *SIZE), dtype=bool))
    with pytest.raises(ConfigurationError, match="no segment to find"):
        proposal_recall(backbone, [empty], CONFIG)
