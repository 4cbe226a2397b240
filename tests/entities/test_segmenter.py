from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.backbone.points import point_grid
from everymask.entities.config import EntityConfig
from everymask.entities.consensus import GridAnswers
from everymask.entities.segmenter import entity_labels, entity_scores, first_come, segment_entities
from everymask.evaluation.disjoint import overlapping_pixels
from everymask.masks.packed import PackedMasks
from everymask.masks.rle import decode_mask
from everymask.records import ImageLabels
from tests.entities.scenes import mask_set
from tests.entities.scripted import Reply, ScriptedBackbone, painted, rectangle

SIZE = (24, 32)
LOW = EntityConfig(points_per_side=8, gallery_points_per_side=16, points_per_batch=5, best_match_thresh=0.1)

NO_CLICK = GridAnswers(
    PackedMasks.pack(torch.zeros(0, SIZE[0] * SIZE[1], dtype=torch.bool), torch.ones(SIZE[0] * SIZE[1])),
    np.zeros(0, dtype=np.int64),
    np.zeros(0, dtype=np.int64),
)


def scene() -> tuple[ScriptedBackbone, NDArray[np.uint8], tuple[NDArray[np.bool_], ...]]:
    """A sofa with a cushion on it, before a wall, and a lamp's shade and foot, which no answer joins."""
    wall, sofa, cushion = rectangle(SIZE, 0, 0, 32, 24), rectangle(SIZE, 2, 10, 20, 22), rectangle(SIZE, 6, 12, 12, 18)
    shade, foot = rectangle(SIZE, 24, 2, 30, 8), rectangle(SIZE, 24, 8, 30, 20)
    wall = wall & ~sofa & ~shade & ~foot
    answers = [
        Reply.one(wall, 0.92),
        Reply((sofa, cushion, cushion), (0.95, 0.9, 0.9)),
        Reply((sofa, cushion, cushion), (0.93, 0.94, 0.94)),
        Reply.one(shade, 0.9),
        Reply.one(foot, 0.9),
    ]
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    for value, region in ((60, sofa), (90, cushion), (200, shade), (220, foot)):
        image[region] = value
    return ScriptedBackbone(answers, painted(SIZE, sofa, cushion, shade, foot)), image, (wall, sofa, shade, foot)


def decoded(labels: ImageLabels) -> list[NDArray[np.bool_]]:
    return [decode_mask(mask.rle) for mask in labels.masks]


def test_a_scene_becomes_its_entities() -> None:
    backbone, image, (wall, sofa, shade, foot) = scene()
    labels = segment_entities(backbone, backbone.embed([image])[0], LOW)
    np.testing.assert_array_equal(decoded(labels), [wall, sofa, foot, shade])
    shares = [mask.area / (24 * 32) for mask in labels.masks]
    estimates = [0.92, 0.95, 0.9, 0.9]
    assert [mask.predicted_iou for mask in labels.masks] == pytest.approx(estimates)
    # All clicks inside agree; one more is for the mask and one against it.
    columns, rows = point_grid(SIZE, LOW.points_per_side).long().T
    clicks = [int(mask[rows, columns].sum()) for mask in decoded(labels)]
    consensus = [(count + 1) / (count + 2) for count in clicks]
    expected = [
        estimate * share**0.25 * agree**0.5 for estimate, share, agree in zip(estimates, shares, consensus, strict=True)
    ]
    assert [mask.score for mask in labels.masks] == pytest.approx(expected)
    assert labels.coverage == 1.0
    sofa_label = labels.masks[1]
    assert (sofa_label.box_xyxy, sofa_label.area) == ((2, 10, 20, 22), 216)
    assert sofa_label.stability_score == 1.0
    x, y = sofa_label.point_coords
    assert sofa[int(y), int(x)]


@st.composite
def scripted_backbones(draw: st.DrawFn) -> tuple[ScriptedBackbone, NDArray[np.uint8]]:
    """Any table of rectangles with any confidence, and any map from prompts to it."""
    size = (draw(st.integers(4, 16)), draw(st.integers(4, 16)))

    def rectangles() -> NDArray[np.bool_]:
        x0, y0 = draw(st.integers(0, size[1] - 1)), draw(st.integers(0, size[0] - 1))
        return rectangle(size, x0, y0, draw(st.integers(x0, size[1])), draw(st.integers(y0, size[0])))

    confidence = st.sampled_from([0.86, 0.89, 0.9, 0.95, 1.0])
    answers = [
        Reply(tuple(rectangles() for _ in range(3)), tuple(draw(confidence) for _ in range(3)))
        for _ in range(draw(st.integers(1, 6)))
    ]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    answer_map = np.kron(rng.integers(len(answers), size=(4, 4)), np.ones((4, 4), dtype=np.int64))[: size[0], : size[1]]
    features = rng.normal(size=(*size, 3)).astype(np.float32)
    image = rng.integers(256, size=(*size, 3), dtype=np.uint8)
    return ScriptedBackbone(answers, answer_map, features), image


@settings(max_examples=60)
@given(scripted_backbones(), st.tuples(st.booleans(), st.booleans()))
def test_whatever_the_model_says_entities_are_disjoint_ranked_and_the_same_lazily_and_eagerly(
    case: Any, modules: tuple[bool, bool]
) -> None:
    backbone, image = case
    config = replace(LOW, emr=modules[0], usr=modules[1], merge_thresh=0.3)
    embedding = backbone.embed([image])[0]
    labels = segment_entities(backbone, embedding, config)
    assert labels == segment_entities(backbone, embedding, config)
    assert labels == segment_entities(backbone, embedding, replace(config, lazy_gallery=False))
    assert overlapping_pixels(labels.masks) == 0
    assert all(mask.area > 0 for mask in labels.masks)
    scores = [mask.score for mask in labels.masks]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    covered = sum(mask.area for mask in labels.masks)
    assert labels.coverage == pytest.approx(covered / image.shape[0] / image.shape[1])


def test_a_model_that_sees_nothing_gives_no_entity() -> None:
    nothing = np.zeros(SIZE, dtype=np.bool_)
    backbone = ScriptedBackbone([Reply.one(nothing)], painted(SIZE))
    labels = segment_entities(backbone, backbone.embed([np.zeros((*SIZE, 3), dtype=np.uint8)])[0], LOW)
    assert labels.masks == ()
    assert labels.coverage == 0.0


def test_an_entity_that_departs_from_the_models_claim_scores_less() -> None:
    half, whole = rectangle(SIZE, 0, 0, 16, 24), rectangle(SIZE, 0, 0, 32, 24)
    found, claimed = (
        PackedMasks.pack(torch.from_numpy(np.stack(masks)).flatten(1), torch.ones(24 * 32))
        for masks in ((half, whole), (whole, whole))
    )
    agreeing = (1 / 2) ** 0.5  # no click, so one for and one against
    expected = [0.4 * 0.5**0.25 * agreeing, 0.8 * agreeing]
    scores, agreement = entity_scores(np.float32([0.8, 0.8]), found, claimed, NO_CLICK)
    assert scores.tolist() == pytest.approx(expected)
    assert agreement.tolist() == [0.5, 1]


def test_without_refinement_overlaps_go_to_the_higher_estimate() -> None:
    backbone, image, _ = scene()
    canvas = backbone.embed([image])[0].canvas
    left, right = rectangle(SIZE, 0, 0, 20, 24), rectangle(SIZE, 12, 0, 32, 24)
    labels = entity_labels(mask_set([left, right], [0.8, 0.9]), NO_CLICK, canvas)
    np.testing.assert_array_equal(decoded(labels), [right, left & ~right])


def test_a_cell_stays_with_the_first_mask_that_holds_it() -> None:
    masks = torch.tensor([[True, True, False], [True, False, True], [True, True, True]])
    assert first_come(masks).tolist() == [[True, True, False], [False, False, True], [False, False, False]]
