"""Figures as a table shows them."""

from __future__ import annotations

import numpy as np

from data_jobs.evaluation.figures import entity_row, interval, table
from everymask.evaluation.entity_ap import EntityMatches, match_entities
from everymask.evaluation.ground_truth import EntityTruth
from everymask.masks.rle import encode_mask
from tests.evaluation.labels import labels

SIZE = (10, 20)


def matches_of_uneven_images() -> EntityMatches:
    """Thirty images with one entity each, of which the found mask covers a different part."""
    truth, predictions = {}, {}
    for number in range(30):
        entity, found = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
        entity.flat[:100], found.flat[: 45 + 2 * number] = True, True
        name = f"{number:02}"
        truth[name] = EntityTruth(SIZE, (encode_mask(entity),), (False,))
        predictions[name] = labels([found], [0.5], SIZE)
    return match_entities(predictions, truth)


def test_the_interval_holds_nineteen_of_twenty_resamplings() -> None:
    matches = matches_of_uneven_images()
    samples = matches.bootstrap(400)
    ends = interval("ap", matches, 400)
    low, high = ends["ap_low"], ends["ap_high"]
    assert 0.93 <= ((samples >= low) & (samples <= high)).mean() <= 0.97
    assert 0.015 <= (samples < low).mean() <= 0.03
    assert low < matches.figures().ap < high


def test_no_interval_without_a_bootstrap() -> None:
    matches = matches_of_uneven_images()
    assert interval("ap", matches, 0) == {}
    assert next(iter(entity_row(matches, None, 0))) == "ap"


def test_a_limited_number_of_masks_has_a_column_of_its_own() -> None:
    row = entity_row(matches_of_uneven_images(), 1, 10)
    assert list(row)[:4] == ["ap", "ap_low", "ap_high", "ap_1"]
    assert row["ap_1"] == row["ap"], "no image has more than one mask"


def test_shares_are_percent_and_counts_are_plain() -> None:
    ours = {"ap": 0.1234, "images": 7, "ap_low": None}
    rows = {"ours": ours, "theirs, longer": {"ap": 1.0, "images": 12, "ap_low": 0.5}}
    assert table(rows).splitlines() == [
        "                     ap   images   ap_low",
        "ours               12.3        7        -",
        "theirs, longer    100.0       12     50.0",
    ]
