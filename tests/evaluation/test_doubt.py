"""Doubt is judged by which masks have a wrong name, and which of those left out show an object."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from everymask.classes.uncertainty import auroc
from everymask.evaluation.doubt import doubt_figures
from everymask.masks.rle import encode_mask
from tests.classes.toy import COLOURS, colour_head
from tests.evaluation.squares import between, described_by, square, truth_of


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


@pytest.mark.parametrize(("height", "judged"), [(20, 0), (19, 1)])
def test_a_mask_is_of_no_object_below_a_tenth(height: int, judged: int) -> None:
    """A grey square, and an object ten times as large that holds it, or all of it but a row."""
    wide = np.zeros((20, 100), dtype=np.bool_)
    wide[:height, :10] = wide[:, 10:] = True
    masks = described_by([np.array((128, 128, 128)) / 255])
    inside = replace(masks, rles=(encode_mask(np.arange(100) < 10 * np.ones((20, 1))),), size_hw=(20, 100))
    found = doubt_figures(colour_head(), {"a": inside}, {"a": truth_of({0: (wide, 0)})}, ("cherry", "lime"))
    assert (found.background, found.missed) == (judged, 0)
