"""Encoded masks and what is known of each become records."""

from __future__ import annotations

import numpy as np

from everymask.masks.labelled import labelled_masks
from everymask.masks.rle import encode_masks
from everymask.records import LabelledMask


def three_masks() -> np.ndarray:
    """Two masks of other shapes and places, an empty one between them."""
    masks = np.zeros((3, 8, 12), bool)
    masks[0, 1:3, 2:7] = True
    masks[2, 5:8, 10] = True
    return masks


KNOWN = {
    "predicted_iou": [0.25, 0.5, 0.75],
    "stability_score": [0.125, 0.25, 0.375],
    "point_coords": [[1.5, 2.5], [3.5, 4.5], [5.5, 6.5]],
    "score": [1.5, 0.5, -0.25],
}


def test_entities_are_measured_and_empty_masks_left_out() -> None:
    rles = encode_masks(three_masks())
    assert labelled_masks(rles, **KNOWN) == [
        LabelledMask(rles[0], (2, 1, 7, 3), 10, 0.25, 0.125, (1.5, 2.5), 1.0),
        LabelledMask(rles[2], (10, 5, 11, 8), 3, 0.75, 0.375, (5.5, 6.5), 0.0),
    ]


def test_scores_inside_the_range_stay() -> None:
    masks = encode_masks(three_masks()[[0, 0, 0]])
    assert [mask.score for mask in labelled_masks(masks, **{**KNOWN, "score": [0.0, 0.3, 1.0]})] == [0.0, 0.3, 1.0]


def test_classes_bring_their_names_and_doubt() -> None:
    found = labelled_masks(
        encode_masks(three_masks()),
        **KNOWN,
        class_id=[1, 0, 2],
        class_names=["cat", "dog", "emu"],
        uncertainty=[0.1, 0.2, 0.3],
        agreement=[0.4, 0.5, 0.6],
    )
    assert [(mask.class_id, mask.class_name, mask.uncertainty, mask.agreement) for mask in found] == [
        (1, "dog", 0.1, 0.4),
        (2, "emu", 0.3, 0.6),
    ]


def test_no_mask_is_no_record() -> None:
    nothing: dict[str, list[float]] = {name: [] for name in KNOWN}
    assert labelled_masks([], **nothing) == []
