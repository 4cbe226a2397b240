from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from everymask.backbone.points import point_grid
from everymask.backbone.protocol import PromptableBackbone
from everymask.errors import ConfigurationError, InputError
from everymask.research.oracle import EXACT, LIKE_SAM, OracleBackbone, OracleErrors, Scene, drawn_scene
from everymask.research.oracle.scene import nested_scene

SIZES = [(427, 640), (640, 427), (120, 400), (750, 550)]


def answers(scene: Scene, errors: OracleErrors, points: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3, H, W) bool masks at original resolution and (N, 3) predicted IoU."""
    oracle = OracleBackbone([scene], errors)
    embedding = oracle.embed([scene.image])[0]
    prompts = oracle.decode_points(embedding, points)
    full = oracle.full_resolution_logits(embedding, prompts.logits.flatten(0, 1)) > 0
    return full.view(-1, 3, *scene.image.shape[:2]).numpy(), prompts.predicted_iou.numpy()


def regions_at(scene: Scene, points: torch.Tensor) -> np.ndarray:
    """(N, 3, H, W) bool object, part and sub-part under each point."""
    columns, rows = points.long().T.numpy()
    owner, part = np.append(scene.object, -1)[scene.subparts], np.append(scene.part, -1)[scene.subparts]
    maps = np.stack([owner, part, scene.subparts])
    return np.stack([maps == maps[:, row, column, None, None] for row, column in zip(rows, columns, strict=True)])


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    inter, union = (first & second).sum(axis=(-2, -1)), (first | second).sum(axis=(-2, -1))
    return inter / np.maximum(union, 1)


def test_it_is_a_backbone_with_the_widths_of_sam() -> None:
    oracle = OracleBackbone([], EXACT)
    assert isinstance(oracle, PromptableBackbone)
    assert (oracle.token_dim, oracle.feature_dim) == (256, 256)


@pytest.mark.parametrize("size_hw", SIZES)
def test_exact_answers_are_the_regions_under_the_click(size_hw: tuple[int, int]) -> None:
    scene = drawn_scene(12, size_hw)
    points = point_grid(size_hw, 4)
    masks, predicted = answers(scene, EXACT, points)
    truth = regions_at(scene, points)
    large = truth.mean(axis=(2, 3)) > 0.01
    assert iou(masks, truth)[large].min() > 0.95
    assert predicted[:, 0] == pytest.approx(1.0)
    objects = np.repeat(truth[:, :1], 3, axis=1)
    assert predicted[large] == pytest.approx(iou(truth, objects)[large], abs=0.05)


def test_the_canvas_is_that_of_sam() -> None:
    scene = drawn_scene(3, (480, 640))
    embedding = OracleBackbone([scene], EXACT).embed([scene.image])[0]
    assert embedding.canvas.size_hw == (193, 256)
    assert embedding.features["image"].shape == (256, 49, 64)


def test_an_answer_depends_on_the_click_alone() -> None:
    scene = drawn_scene(30, (90, 120))
    oracle = OracleBackbone([scene], LIKE_SAM)
    embedding = oracle.embed([scene.image])[0]
    points = point_grid((90, 120), 6)
    together = oracle.decode_points(embedding, points)
    again = pickle.loads(pickle.dumps(embedding))
    for index in range(0, 36, 7):
        alone = oracle.decode_points(again, points[index : index + 1])
        assert torch.equal(alone.logits[0], together.logits[index])
        assert torch.equal(alone.predicted_iou[0], together.predicted_iou[index])
        assert torch.allclose(alone.tokens[0], together.tokens[index], atol=1e-6)
    assert oracle.decode_points(embedding, points[:0]).logits.shape == (0, 3, embedding.canvas.num_cells)


def test_a_click_on_nothing_finds_nothing() -> None:
    objects = np.full((60, 80), -1)
    objects[:, :40] = 0
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    scene = nested_scene(image, objects, np.zeros_like(objects), np.zeros_like(objects))
    masks, predicted = answers(scene, LIKE_SAM, torch.tensor([[60.0, 30.0], [20.0, 30.0]]))
    assert not masks[0].any()
    assert not predicted[0].any()
    assert masks[1].any(axis=(1, 2)).all()


def test_pictures_without_annotation_and_foreign_embeddings_are_refused() -> None:
    scene = drawn_scene(3, (40, 50))
    oracle = OracleBackbone([scene], EXACT)
    with pytest.raises(InputError, match="50 x 40 pixels is not annotated"):
        oracle.embed([np.zeros_like(scene.image)])
    embedding = oracle.embed([scene.image])[0]
    with pytest.raises(ConfigurationError, match="other errors"):
        OracleBackbone([scene], LIKE_SAM).decode_points(embedding, torch.zeros(1, 2))


def test_a_swallowing_object_mask_holds_two_objects() -> None:
    scene = drawn_scene(8, (300, 400))
    points = point_grid((300, 400), 3)
    masks, _ = answers(scene, replace(EXACT, swallow=1.0), points)
    own = regions_at(scene, points)[:, 0]
    for mask, region in zip(masks[:, 0], own, strict=True):
        other = np.unique(scene.objects[mask & ~region], return_counts=True)
        neighbour = scene.objects == other[0][other[1].argmax()]
        assert iou(mask, region | neighbour) > 0.95


def test_a_stopping_object_mask_is_a_part() -> None:
    scene = drawn_scene(8, (300, 400))
    points = point_grid((300, 400), 3)
    masks, _ = answers(scene, replace(EXACT, stop=1.0), points)
    assert np.array_equal(masks[:, 0], masks[:, 1])


def test_a_lost_click_gets_no_good_mask() -> None:
    scene = drawn_scene(8, (300, 400))
    points = point_grid((300, 400), 5)
    masks, _ = answers(scene, replace(EXACT, lost=1.0), points)
    assert np.array_equal(masks[:, 0], masks[:, 1])
    assert np.array_equal(masks[:, 0], masks[:, 2])
    assert iou(masks, regions_at(scene, points)[:, 2:]).max() < 0.99


def test_a_giant_is_the_whole_picture_and_sure_of_it() -> None:
    scene = drawn_scene(8, (300, 400))
    points = point_grid((300, 400), 3)
    masks, predicted = answers(scene, replace(EXACT, giant=1.0), points)
    assert masks[:, 0].all()
    assert predicted[:, 0] == pytest.approx(0.9)
    assert iou(masks[:, 1:], regions_at(scene, points)[:, 1:]).min() > 0.9


def test_a_leak_runs_over_the_edge_that_shows_least() -> None:
    objects = np.repeat([0, 1, 2], 100)[None].repeat(120, axis=0)
    image = np.zeros((120, 300, 3), dtype=np.uint8)
    image[:, :100], image[:, 100:200], image[:, 200:] = 250, 100, 110
    scene = nested_scene(image, objects, np.zeros_like(objects), np.zeros_like(objects))
    points = torch.tensor([[x, y] for x in (110.0, 190.0) for y in (20.0, 60.0, 100.0)])
    masks, _ = answers(scene, replace(EXACT, leak=1.0), points)
    assert iou(masks[:, 0], objects >= 1).min() > 0.95


def test_holes_and_islands_are_small_pieces_inside_and_far_outside() -> None:
    objects = np.repeat([0, 1, 2], 100)[None].repeat(120, axis=0)
    parts = np.zeros_like(objects)
    parts[50:60, 140:160] = 1
    parts[50:60, 240:260] = 2
    scene = nested_scene(np.zeros((120, 300, 3), dtype=np.uint8), objects, parts, parts)
    point = torch.tensor([[20.0, 20.0]])
    (left, *_), _ = answers(scene, replace(EXACT, island=1.0), point)
    assert iou(left[0], (objects == 0) | (parts == 2)) > 0.95
    (middle, *_), _ = answers(scene, replace(EXACT, hole=1.0), torch.tensor([[110.0, 20.0]]))
    assert iou(middle[0], (objects == 1) & (parts == 0)) > 0.95
    inside, _ = answers(scene, replace(EXACT, hole=1.0), torch.tensor([[150.0, 55.0]]))
    assert iou(inside[0, 0], objects == 1) > 0.95


def test_the_best_level_is_drawn() -> None:
    scene = drawn_scene(8, (300, 400))
    points = point_grid((300, 400), 4)
    errors = replace(EXACT, knows_entities=False, estimate_slope=0.0, preference=0.15, best_level=(0.0, 1.0, 0.0))
    _, predicted = answers(scene, errors, points)
    assert (predicted.argmax(axis=1) == 1).all()


def test_estimates_like_sams_correlate_with_real_iou_at_about_0_7() -> None:
    scene = drawn_scene(40, (120, 160))
    points = point_grid((120, 160), 12)
    masks, predicted = answers(scene, replace(LIKE_SAM, giant=0.0), points)
    truth = regions_at(scene, points)
    real = iou(masks[:, :, None], truth[:, None]).max(axis=2)
    assert 0.6 < np.corrcoef(real.ravel(), predicted.ravel())[0, 1] < 0.8


def test_masks_that_contradict_a_click_are_estimated_0() -> None:
    scene = drawn_scene(4, (300, 400))
    oracle = OracleBackbone([scene], EXACT)
    embedding = oracle.embed([scene.image])[0]
    point = torch.tensor([[200.0, 150.0]])
    mask = oracle.decode_points(embedding, point).logits[0, 0].view(embedding.canvas.size_hw) > 0
    outside = torch.nonzero(~mask[: 290 * 256 // 400])[0].flip(0) * (400 / 256)
    clicks = torch.stack([point[0], outside])
    agreeing = oracle.decode_clicks(embedding, clicks, torch.tensor([1, 0]))
    assert agreeing.predicted_iou[0, 0] == pytest.approx(1.0)
    assert not oracle.decode_clicks(embedding, clicks, torch.tensor([1, 1])).predicted_iou.any()
    boxed = oracle.decode_clicks(embedding, clicks[:0], torch.zeros(0), torch.tensor([190.0, 140.0, 210.0, 160.0]))
    assert torch.equal(boxed.logits, oracle.decode_points(embedding, point).logits)


def test_superpixels_of_one_object_have_similar_features() -> None:
    scene = drawn_scene(4, (300, 400))
    oracle = OracleBackbone([scene], EXACT)
    embedding = oracle.embed([scene.image])[0]
    points = point_grid((300, 400), 8)
    features = torch.nn.functional.normalize(oracle.sample_features(embedding, points), dim=1)
    columns, rows = points.long().T.numpy()
    owner = torch.from_numpy(scene.objects[rows, columns])
    same = owner[:, None] == owner[None]
    cosine = features @ features.T
    assert cosine[same].mean() > 0.8
    assert cosine[~same].mean() < 0.3
    masks = oracle.decode_points(embedding, points[:2]).logits[:, 0] > 0
    assert oracle.pool_features(embedding, masks).shape == (2, 256)
