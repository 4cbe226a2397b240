"""What an export lost: counted mask by mask, over images and shares."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from everymask.formats.loss import Loss
from everymask.masks.rle import encode_mask
from tests.labels.examples import mask_record


def columns(first: int, last: int) -> NDArray[np.bool_]:
    """Some of ten columns of a 10 x 10 mask."""
    mask = np.zeros((10, 10), bool)
    mask[:, first:last] = True
    return mask


def lost(image_id: str, *pairs: tuple[NDArray[np.bool_], NDArray[np.bool_]], overlaps_kept: bool = False) -> Loss:
    """The loss of an image with masks as they were and as they were written."""
    loss = Loss()
    stored = [mask_record(mask, 0.9) for mask, _ in pairs]
    loss.add(image_id, stored, [encode_mask(mask) for _, mask in pairs], overlaps_kept)
    return loss


def test_every_mask_that_is_not_as_it_was_counts() -> None:
    same = (columns(0, 10), columns(0, 10))
    half, gone = (columns(0, 8), columns(0, 4)), (columns(6, 9), columns(9, 10))
    loss = lost("a.png", same, half, gone)
    assert (loss.masks, loss.changed, loss.vanished, loss.overlapping) == (3, 2, 1, 3)
    assert (loss.worst, loss.worst_iou, loss.mean_iou) == ("a.png", 0.0, pytest.approx(0.5))
    assert lost("a.png", same, half, gone, overlaps_kept=True).overlapping == 0
    assert lost("a.png", (columns(0, 3), columns(0, 2)), (columns(5, 9), columns(5, 9))).overlapping == 0


def test_losses_of_shares_add_up_and_the_worst_image_is_named() -> None:
    half, quarter = (columns(0, 8), columns(0, 4)), (columns(0, 8), columns(0, 2))
    both = Loss()
    for loss in (lost("a.png", half, half), lost("b.png", quarter), lost("c.png", half), Loss()):
        both.merge(loss)
    assert (both.masks, both.changed, both.vanished, both.overlapping) == (4, 4, 0, 2)
    assert (both.worst, both.worst_iou, both.mean_iou) == ("b.png", 0.25, pytest.approx(1.75 / 4))
    assert (Loss().mean_iou, Loss().worst_iou) == (1.0, 1.0)
