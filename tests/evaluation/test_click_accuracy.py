from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from everymask.errors import ConfigurationError
from everymask.evaluation.click_accuracy import (
    BoolArray,
    ClickPicture,
    click_errors,
    click_figures,
    click_pictures,
    click_scores,
    felzenszwalb_answers,
    reliability,
)
from everymask.evaluation.ground_truth import UNLABELLED, AnnotatedPicture, PictureReference
from everymask.masks.interior import interior_points


def halves() -> ClickPicture:
    """A 10 x 20 picture, dark on the left quarter and bright elsewhere."""
    segments = np.zeros((2, 10, 20), dtype=bool)
    segments[0, :, :5] = True
    segments[1, :, 5:] = True
    image = np.repeat(segments[1][..., None] * np.uint8(200), 3, axis=2)
    return ClickPicture(image, segments)


def test_the_click_is_the_pixel_farthest_from_every_border() -> None:
    segments = np.zeros((2, 12, 12), dtype=bool)
    segments[0, 2:9, 3:10] = True
    segments[1, :, :5] = True  # The picture's edge counts as a border.
    assert interior_points(segments).tolist() == [[6.5, 5.5], [2.5, 2.5]]


def test_the_click_on_a_ring_is_on_the_ring() -> None:
    rows, columns = np.mgrid[:41, :41]
    ring = np.abs(np.hypot(rows - 20, columns - 20) - 15) < 3
    ((x, y),) = interior_points(ring[None])
    assert ring[int(y), int(x)]


def test_figures_against_hand_computed_ious() -> None:
    picture = halves()

    def answers(image: NDArray[np.uint8], points: torch.Tensor) -> Iterable[tuple[BoolArray, NDArray[np.float32]]]:
        everything = np.ones((10, 20), dtype=bool)
        nothing = np.zeros((10, 20), dtype=bool)
        for segment, score in zip(picture.segments, (0.9, 0.1), strict=True):
            yield np.stack([segment, everything, nothing]), np.array([score, 0.5, 0.0], dtype=np.float32)

    scores = click_scores(answers, [picture])
    figures = click_figures(scores)
    assert figures.clicks == 2
    assert figures.best == 1
    assert figures.top == pytest.approx((1 + 0.75) / 2)
    weights = np.sqrt([0.25, 0.75])
    assert figures.top_root == pytest.approx((weights[0] + 0.75 * weights[1]) / weights.sum())
    iou, score = [1, 0.25, 0, 1, 0.75, 0], [0.9, 0.5, 0, 0.1, 0.5, 0]
    assert figures.correlation == pytest.approx(np.corrcoef(iou, score)[0, 1])
    assert reliability(scores) == {
        "0.0 to 0.1": {"masks": 2, "predicted": 0, "real": 0},
        "0.1 to 0.2": {"masks": 1, "predicted": pytest.approx(0.1), "real": 1},
        "0.5 to 0.6": {"masks": 2, "predicted": 0.5, "real": 0.5},
        "0.9 to 1.0": {"masks": 1, "predicted": pytest.approx(0.9), "real": 1},
    }


def test_full_certainty_belongs_to_the_highest_tenth() -> None:
    def answers(image: NDArray[np.uint8], points: torch.Tensor) -> Iterable[tuple[BoolArray, NDArray[np.float32]]]:
        for segment in halves().segments:
            yield np.stack([segment, ~segment]), np.array([1.0, 0.95], dtype=np.float32)

    assert reliability(click_scores(answers, [halves()])) == {
        "0.9 to 1.0": {"masks": 4, "predicted": pytest.approx(0.975), "real": 0.5}
    }


def test_the_iou_of_masks_that_only_overlap() -> None:
    """Half inside and half outside: a third is shared, neither a half nor two thirds."""
    segment = halves().segments[:1]
    shifted, spread = np.zeros((10, 20), dtype=bool), np.zeros((10, 20), dtype=bool)
    shifted[5:, :10] = True
    spread[:2] = True

    def answers(image: NDArray[np.uint8], points: torch.Tensor) -> Iterable[tuple[BoolArray, NDArray[np.float32]]]:
        yield np.stack([shifted, spread]), np.array([0.5, 0.4], dtype=np.float32)

    scores = click_scores(answers, [ClickPicture(halves().image, segment)])
    np.testing.assert_allclose(scores.iou, [[25 / 75, 10 / 80]])
    np.testing.assert_allclose(scores.precision, [[25 / 50, 10 / 40]])
    np.testing.assert_allclose(scores.recall, [[25 / 50, 10 / 50]])
    assert (scores.area.tolist(), scores.share.tolist()) == ([50], [0.25])
    figures = click_figures(scores)
    assert (figures.best, figures.top) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_the_best_answer_to_each_click_is_right_merged_a_piece_or_missed() -> None:
    image = np.zeros((40, 120, 3), dtype=np.uint8)
    segments = np.zeros((4, 40, 120), dtype=bool)
    for index in range(4):
        segments[index, :, 30 * index : 30 * (index + 1)] = True
    answers_by_segment = [segments[0], segments[1] | segments[0], segments[2].copy(), np.roll(segments[3], -15, axis=1)]
    answers_by_segment[2][20:] = False

    def answers(image: NDArray[np.uint8], points: torch.Tensor) -> Iterable[tuple[BoolArray, NDArray[np.float32]]]:
        for mask in answers_by_segment:
            yield mask[None], np.ones(1, dtype=np.float32)

    errors = click_errors(click_scores(answers, [ClickPicture(image, segments)]))
    assert list(errors) == ["all", "medium"]
    assert errors["all"] == errors["medium"]
    shares = {kind: errors["all"][kind] for kind in ("right", "merged", "piece", "missed")}
    assert shares == dict.fromkeys(shares, 0.25)


def test_the_baseline_finds_plain_halves() -> None:
    figures = click_figures(click_scores(felzenszwalb_answers(), [halves()]))
    assert figures.best > 0.95


def test_the_baselines_regions_have_half_their_scale_in_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    clicks = torch.tensor([[x + 0.5, y + 0.5] for y in range(0, 60, 3) for x in range(0, 90, 3)])
    areas = np.stack([masks.sum(axis=(1, 2)) for masks, _ in felzenszwalb_answers()(noise, clicks)])
    assert (areas.min(axis=0) >= [50, 150, 400]).all()
    assert areas[:, 0].min() < 100


def test_ground_truth_without_segments_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no segment"):
        click_scores(felzenszwalb_answers(), [])


def test_every_segment_of_every_label_map_is_clicked_but_small_ones() -> None:
    image = np.zeros((6, 8, 3), dtype=np.uint8)
    halves, corner = np.arange(48).reshape(6, 8) // 24, np.full((6, 8), UNLABELLED)
    corner[:2, :2] = 5
    read = partial(AnnotatedPicture, "a", image, (halves.astype(np.int32), corner.astype(np.int32)), complete=False)
    (picture,) = click_pictures([PictureReference("a", read)])
    assert picture.segments.sum(axis=(1, 2)).tolist() == [24, 24, 4]
    (picture,) = click_pictures([PictureReference("a", read)], min_area=0.1)
    assert picture.segments.sum(axis=(1, 2)).tolist() == [24, 24]
