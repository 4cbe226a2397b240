from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.backbone.nano import NanoBackbone
from everymask.backbone.nano.backbone import LONGEST_SIDE_PX
from everymask.backbone.nano.efficientnet import CHANNELS
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.errors import ConfigurationError, ModelOutputError

DISC, BOX, GROUND = (50.5, 60.5), (125.5, 60.5), (80.5, 10.5)


def grid(width: int, height: int, side: int) -> torch.Tensor:
    x = (torch.arange(side) + 0.5) / side * width
    y = (torch.arange(side) + 0.5) / side * height
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


def best_iou(nano: NanoBackbone, embedding: ImageEmbedding, logits: torch.Tensor, truth: NDArray[np.bool_]) -> float:
    masks = (nano.full_resolution_logits(embedding, logits) > 0).numpy()
    return float(((masks & truth).sum(axis=(1, 2)) / (masks | truth).sum(axis=(1, 2))).max())


def test_registry_gives_a_backbone_that_keeps_the_protocol() -> None:
    backbone = load_backbone("nano", device="cpu")
    assert isinstance(backbone, PromptableBackbone)
    assert backbone.name == "nano"
    assert len(backbone.weights_sha256) == 64


def test_shapes_and_dtypes_of_answers(nano: NanoBackbone, embedding: ImageEmbedding) -> None:
    points = torch.tensor([DISC, BOX, GROUND])
    answers = nano.decode_points(embedding, points)
    cells = embedding.canvas.num_cells
    assert answers.logits.shape == (3, 3, cells)
    assert answers.predicted_iou.shape == (3, 3)
    assert answers.predicted_iou.dtype == torch.float32
    assert bool(((answers.predicted_iou >= 0) & (answers.predicted_iou <= 1)).all())
    assert answers.tokens.shape == (3, 3, nano.token_dim)
    assert torch.equal(answers.point_coords, points)
    features = embedding.features["features"]
    trunk = features[embedding.canvas.cells_at(points), : sum(CHANNELS[1:])]
    assert torch.equal(nano.sample_features(embedding, points), trunk)


def test_cells_partition_the_canvas(embedding: ImageEmbedding) -> None:
    counts = torch.bincount(embedding.canvas.cell_index.reshape(-1), minlength=embedding.canvas.num_cells)
    assert bool((counts > 0).all())
    assert torch.equal(counts.float(), embedding.canvas.cell_area)
    assert embedding.canvas_image.shape[:2] == embedding.canvas.size_hw


def test_a_click_finds_the_shape_under_it(
    nano: NanoBackbone, embedding: ImageEmbedding, shapes: NDArray[np.uint8]
) -> None:
    rows, columns = np.mgrid[:120, :160]
    disc = (columns - 50) ** 2 + (rows - 60) ** 2 < 30**2
    box = (rows >= 30) & (rows < 90) & (columns >= 105) & (columns < 145)
    answers = nano.decode_points(embedding, torch.tensor([DISC, BOX]))
    assert best_iou(nano, embedding, answers.logits[0], disc) > 0.85
    assert best_iou(nano, embedding, answers.logits[1], box) > 0.85


def test_no_prompt_gives_empty_answers(nano: NanoBackbone, embedding: ImageEmbedding) -> None:
    none = torch.zeros(0, 2)
    answers = nano.decode_points(embedding, none)
    assert answers.logits.shape == (0, 3, embedding.canvas.num_cells)
    assert answers.tokens.shape == (0, 3, nano.token_dim)
    representative, inverse = nano.distinct_points(embedding, none)
    assert len(representative) == len(inverse) == 0
    assert nano.sample_features(embedding, none).shape == (0, sum(CHANNELS[1:]))
    empty = torch.zeros(0, embedding.canvas.num_cells)
    assert nano.full_resolution_logits(embedding, empty).shape == (0, 120, 160)
    assert nano.pool_features(embedding, empty > 0).shape == (0, nano.feature_dim)


def test_an_image_is_embedded_the_same_whatever_its_neighbours(nano: NanoBackbone, shapes: NDArray[np.uint8]) -> None:
    other = np.random.default_rng(1).integers(0, 256, size=(60, 40, 3), dtype=np.uint8)
    alone = nano.embed([shapes])[0]
    together = nano.embed([other, shapes, other])[1]
    assert torch.equal(alone.canvas.cell_index, together.canvas.cell_index)
    for name, tensor in alone.features.items():
        assert torch.equal(tensor, together.features[name]), name


def test_answers_do_not_depend_on_other_prompts(nano: NanoBackbone, embedding: ImageEmbedding) -> None:
    points = grid(160, 120, 5)
    together = nano.decode_points(embedding, points)
    for index in (0, 11, 24):
        alone = nano.decode_points(embedding, points[index : index + 1])
        torch.testing.assert_close(together.logits[index : index + 1], alone.logits, atol=1e-4, rtol=1e-4)


def test_decoding_twice_gives_the_same_bits(nano: NanoBackbone, embedding: ImageEmbedding) -> None:
    points = grid(160, 120, 4)
    first, second = nano.decode_points(embedding, points), nano.decode_points(embedding, points)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.predicted_iou, second.predicted_iou)


def test_distinct_points_stand_for_their_groups(nano: NanoBackbone, embedding: ImageEmbedding) -> None:
    points = grid(160, 120, 24)
    representative, inverse = nano.distinct_points(embedding, points)
    assert len(representative) <= embedding.canvas.num_cells < len(points)
    assert torch.equal(representative, representative.sort().values)
    every = nano.decode_points(embedding, points)
    few = nano.decode_points(embedding, points[representative])
    torch.testing.assert_close(few.logits[inverse], every.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(few.tokens[inverse], every.tokens, atol=1e-4, rtol=1e-4)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 159.9), st.floats(0, 119.9)), min_size=1, max_size=40))
def test_distinct_points_are_the_first_of_each_cell(
    nano: NanoBackbone, embedding: ImageEmbedding, coords: list[tuple[float, float]]
) -> None:
    points = torch.tensor(coords)
    cells = embedding.canvas.cells_at(points).tolist()
    representative, inverse = nano.distinct_points(embedding, points)
    assert representative.tolist() == sorted({cells.index(cell) for cell in cells})
    assert [cells[representative[group]] for group in inverse.tolist()] == cells


def test_pooled_features_are_area_weighted_means(nano: NanoBackbone, embedding: ImageEmbedding) -> None:
    cells = embedding.canvas.num_cells
    masks = torch.zeros(3, cells, dtype=torch.bool)
    masks[0, :4] = True
    masks[1] = True
    pooled = nano.pool_features(embedding, masks)
    area = embedding.canvas.cell_area
    last = sum(CHANNELS[1:])
    features = embedding.features["features"][:, last - sum(CHANNELS[-2:]) : last]
    expected = sum(area[i] * features[i] for i in range(4)) / area[:4].sum()
    torch.testing.assert_close(pooled[0], expected)
    torch.testing.assert_close(pooled[1], (area @ features) / area.sum())
    assert not pooled[2].any()


def test_foreground_click_alone_equals_a_point(nano: NanoBackbone, embedding: ImageEmbedding) -> None:
    point = torch.tensor([DISC])
    clicked = nano.decode_clicks(embedding, point, torch.tensor([1]))
    assert torch.equal(clicked.logits, nano.decode_points(embedding, point).logits)


def test_two_clicks_take_both_shapes_and_a_background_click_leaves_one_out(
    nano: NanoBackbone, embedding: ImageEmbedding
) -> None:
    points = torch.tensor([DISC, BOX])
    cells = embedding.canvas.cells_at(points)
    both = nano.decode_clicks(embedding, points, torch.tensor([1, 1]))
    assert bool((both.logits[0, 0, cells] > 0).all())
    without = nano.decode_clicks(embedding, points, torch.tensor([1, 0]))
    assert bool((without.logits[0, :, cells[1]] <= 0).all())
    assert float(without.logits[0, 0, cells[0]]) > 0
    for answers in (both, without):
        assert answers.logits.shape == (1, 3, embedding.canvas.num_cells)
        assert answers.point_coords.shape == (1, 2)


def test_a_box_alone_gives_the_shape_inside(nano: NanoBackbone, embedding: ImageEmbedding) -> None:
    box = torch.tensor([103.0, 28.0, 147.0, 92.0])
    answers = nano.decode_clicks(embedding, torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), box)
    rows, columns = np.mgrid[:120, :160]
    truth = (rows >= 30) & (rows < 90) & (columns >= 105) & (columns < 145)
    assert best_iou(nano, embedding, answers.logits[0, :1], truth) > 0.85


def test_a_prompt_that_points_at_nothing_is_refused(nano: NanoBackbone, embedding: ImageEmbedding) -> None:
    with pytest.raises(ConfigurationError, match="points at nothing"):
        nano.decode_clicks(embedding, torch.tensor([DISC]), torch.tensor([0]))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (700, 900)])
def test_odd_sizes_are_answered_at_their_own_resolution(nano: NanoBackbone, size: tuple[int, int]) -> None:
    image = np.random.default_rng(2).integers(0, 256, size=(*size, 3), dtype=np.uint8)
    embedding = nano.embed([image])[0]
    assert max(embedding.canvas.size_hw) <= LONGEST_SIDE_PX
    answers = nano.decode_points(embedding, torch.tensor([[size[1] / 2, size[0] / 2]]))
    assert nano.full_resolution_logits(embedding, answers.logits[0]).shape == (3, *size)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_single_colour_is_answered(nano: NanoBackbone, value: int) -> None:
    embedding = nano.embed([np.full((50, 70, 3), value, dtype=np.uint8)])[0]
    answers = nano.decode_points(embedding, grid(70, 50, 3))
    assert bool(answers.logits.isfinite().all())


def test_an_embedding_survives_pickling_and_a_change_of_device(nano: NanoBackbone, embedding: ImageEmbedding) -> None:
    copy = pickle.loads(pickle.dumps(embedding)).to("cpu")
    point = torch.tensor([DISC])
    assert torch.equal(nano.decode_points(copy, point).logits, nano.decode_points(embedding, point).logits)


def test_an_embedding_of_other_weights_is_refused(nano: NanoBackbone, embedding: ImageEmbedding) -> None:
    foreign = replace(embedding, weights_sha256="0" * 64)
    with pytest.raises(ConfigurationError, match="embed the image again"):
        nano.decode_points(foreign, torch.tensor([DISC]))


def test_nan_in_an_embedding_is_named(nano: NanoBackbone, embedding: ImageEmbedding) -> None:
    features = embedding.features | {"cells": torch.full_like(embedding.features["cells"], float("nan"))}
    with pytest.raises(ModelOutputError, match="nano"):
        nano.decode_points(replace(embedding, features=features), torch.tensor([DISC]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_answers_like_the_cpu(nano: NanoBackbone, embedding: ImageEmbedding) -> None:
    on_gpu = load_backbone("nano", device="cuda")
    points = torch.tensor([DISC, BOX])
    answers = on_gpu.decode_points(embedding.to("cuda"), points)
    expected = nano.decode_points(embedding, points)
    torch.testing.assert_close(answers.logits.cpu(), expected.logits, atol=0.05, rtol=0.02)
