"""Doubt is judged by which masks have a wrong name, and which of those left out show an object."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.features import MaskFeatures
from everymask.classes.uncertainty import auroc
from everymask.evaluation.doubt import doubt_figures
from everymask.evaluation.ground_truth import ClassTruth
from everymask.evaluation.ground_truth.records import InstanceTruth
from everymask.masks.rle import encode_mask
from tests.classes.toy import COLOURS, colour_head

SIZE = (20, 60)
"""Six squares side by side."""


def square(column: int) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, dtype=bool)
    mask[:, 10 * column : 10 * column + 10] = True
    return mask


def between(first: tuple[int, ...], second: tuple[int, ...], share: float) -> NDArray[np.float64]:
    return ((1 - share) * np.array(first) + share * np.array(second)) / 255


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    generator = np.random.default_rng(0)
    value, positive = generator.integers(5, size=40).astype(float), generator.random(40) < 0.3
    pairs = [(p > n) + 0.5 * (p == n) for p, n in product(value[positive], value[~positive])]
    assert auroc(value, positive) == pytest.approx(np.mean(pairs))
    assert auroc(value, np.ones(40, dtype=bool)) is None
    assert auroc(np.zeros(0), np.zeros(0, dtype=bool)) is None


def test_each_kind_of_error_is_judged_by_its_own_doubt() -> None:
    grey = (128, 128, 128)
    # Called an object: a right cherry, a lime that might be a cherry and is one, a right lime. Called background: a
    # lime that looks a little like one, a cherry that looks like none, and nothing, which looks a little like a cherry.
    described = [
        between(COLOURS["cherry"], COLOURS["lime"], 0.0),
        between(COLOURS["lime"], COLOURS["cherry"], 0.25),
        between(COLOURS["lime"], COLOURS["cherry"], 0.0),
        between(grey, COLOURS["lime"], 0.3),
        between(grey, COLOURS["cherry"], 0.0),
        between(grey, COLOURS["cherry"], 0.2),
    ]
    truth = truth_of({column: (square(column), class_id) for column, class_id in enumerate((0, 0, 1, 1, 0))})
    found = doubt_figures(colour_head(4.0), {"a": described_by(described)}, {"a": truth}, ("cherry", "lime"))
    assert (found.named, found.wrong, found.background, found.missed) == (3, 1, 3, 2)
    assert found.wrong_name == 1.0
    assert found.missed_object == 0.5


def test_masks_that_touch_an_object_without_matching_it_are_no_measure() -> None:
    wide = square(0) | square(1) | square(2) | square(3)
    masks = described_by([np.array(COLOURS["cherry"]) / 255, np.array((128, 128, 128)) / 255])
    found = doubt_figures(colour_head(), {"a": masks}, {"a": truth_of({0: (wide, 0)})}, ("cherry", "lime"))
    assert (found.named, found.background, found.wrong_name, found.missed_object) == (0, 0, None, None)


def truth_of(objects: dict[int, tuple[NDArray[np.bool_], int]]) -> ClassTruth:
    instances = (InstanceTruth(class_id, encode_mask(mask), float(mask.sum())) for mask, class_id in objects.values())
    return ClassTruth(SIZE, tuple(instances), np.zeros(SIZE, dtype=np.int32))


def described_by(colours: Sequence[NDArray[np.float64]]) -> MaskEmbeddings:
    """Squares side by side with these tokens, all of predicted IoU 1."""
    count = len(colours)
    ones, nothing = np.ones(count, dtype=np.float32), np.zeros((count, 0), dtype=np.float16)
    return MaskEmbeddings(
        SIZE,
        MaskFeatures(np.array(colours, dtype=np.float16), nothing, nothing),
        predicted_iou=ones,
        stability_score=ones,
        frame_share=ones,
        occupancy=np.zeros((count, 256), dtype=np.uint8),
        point_coords=np.zeros((count, 2), dtype=np.float32),
        rles=tuple(encode_mask(square(column)) for column in range(count)),
        backbone="colour",
        weights_sha256="a" * 64,
    )
