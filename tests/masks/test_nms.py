from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from everymask.masks.nms import cell_mask_nms, mask_nms
from everymask.masks.overlap import mask_iou


def nms_by_definition(iou: NDArray[np.float64], scores: NDArray[np.float64], thresholds: Any) -> list[int]:
    remaining = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    kept = []
    while remaining:
        best = remaining.pop(0)
        kept.append(best)
        remaining = [other for other in remaining if iou[best, other] <= thresholds[best]]
    return kept


@st.composite
def nms_cases(draw: st.DrawFn) -> Any:
    count = draw(st.integers(0, 7))
    unit = st.integers(0, 4).map(lambda value: value / 4)
    half = draw(hnp.arrays(np.float32, (count, count), elements=unit))
    iou = np.maximum(half, half.T)
    scores = draw(hnp.arrays(np.float32, count, elements=unit))
    thresholds = draw(hnp.arrays(np.float32, count, elements=unit))
    return iou, scores, thresholds


@given(nms_cases())
def test_adaptive_suppression_follows_the_definition(case: Any) -> None:
    iou, scores, thresholds = case
    kept = mask_nms(torch.from_numpy(iou), torch.from_numpy(scores), torch.from_numpy(thresholds))
    assert kept.tolist() == nms_by_definition(iou, scores, thresholds)


@given(nms_cases(), st.sampled_from([0.0, 0.25, 0.7, 1.0]))
def test_one_threshold_for_all(case: Any, threshold: float) -> None:
    iou, scores, _ = case
    kept = mask_nms(torch.from_numpy(iou), torch.from_numpy(scores), threshold)
    assert kept.tolist() == nms_by_definition(iou, scores, [np.float32(threshold)] * len(scores))


@given(st.integers(0, 9), st.integers(0, 2**31))
def test_packed_masks_give_what_the_iou_of_all_pairs_gives(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, 12, generator=generator) < 0.6
    scores = torch.randint(4, (count,), generator=generator) / 4
    thresholds = torch.rand(count, generator=generator)
    area = torch.randint(1, 5, (12,), generator=generator).to(torch.float32)
    whole = mask_nms(mask_iou(masks, masks, area), scores, thresholds)
    assert cell_mask_nms(masks, scores, thresholds, area).tolist() == whole.tolist()
