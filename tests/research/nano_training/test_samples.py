from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.nano import NanoBackbone
from everymask.backbone.nano.regions import RegionConfig
from everymask.evaluation.ground_truth import AnnotatedPicture
from everymask.research.nano_training.augment import AugmentConfig, random_view
from everymask.research.nano_training.boundaries import UNKNOWN, boundary_target
from everymask.research.nano_training.decoding import mirror, window
from everymask.research.nano_training.objective import ObjectiveConfig, cell_iou, collate, draw_prompts, interior_cells
from everymask.research.nano_training.samples import Sample, make_sample, segment_coverage
from tests.research.nano_training.annotated import annotated


def sample_of(nano: NanoBackbone, picture: AnnotatedPicture) -> Sample:
    return make_sample(picture, nano._model.encoder, RegionConfig())


def test_coverage_is_the_share_of_each_cell() -> None:
    cells = np.array([[0, 0, 1], [2, 2, 1]])
    first = np.array([[5, 5, 7], [7, 5, 7]], dtype=np.int32)
    nobody = np.full((2, 3), -1, dtype=np.int32)
    assert segment_coverage(cells, (first, nobody)).tolist() == [[1, 0, 0.5], [0, 1, 0.5]]
    assert segment_coverage(cells, (nobody,)).shape == (0, 3)


def test_a_sample_survives_its_file(nano: NanoBackbone, shapes: NDArray[np.uint8], tmp_path: Path) -> None:
    sample = sample_of(nano, annotated(shapes))
    sample.save(tmp_path / "sample.npz")
    read = Sample.load(tmp_path / "sample.npz")
    assert torch.equal(read.coverage, sample.coverage)
    assert torch.equal(read.tokens.planes, sample.tokens.planes)
    torch.testing.assert_close(read.tokens.features.float(), sample.tokens.features, atol=1e-2, rtol=1e-2)
    assert [path.name for path in tmp_path.iterdir()] == ["sample.npz"]


def test_prompts_lie_in_the_segments_they_stand_for(nano: NanoBackbone, shapes: NDArray[np.uint8]) -> None:
    sample = sample_of(nano, annotated(shapes))
    cells, segments = draw_prompts(sample, 64, ObjectiveConfig(), np.random.default_rng(0))
    assert set(segments.tolist()) == {0, 1, 2}
    assert bool((sample.coverage[segments, cells] > 0.5).all())
    assert bool((sample.coverage[torch.arange(3), interior_cells(sample)] > 0.5).all())


def test_padding_changes_no_answer(nano: NanoBackbone, shapes: NDArray[np.uint8]) -> None:
    large = sample_of(nano, annotated(shapes))
    small = sample_of(nano, annotated(shapes[20:100, :100]))
    assert len(small.area) < len(large.area)
    drawn = [draw_prompts(sample, 4, ObjectiveConfig(), np.random.default_rng(1)) for sample in (large, small)]
    both, alone = collate([large, small], drawn), collate([small], drawn[1:])
    decoder = nano._model.decoder
    with torch.inference_mode():
        padded = decoder(decoder.encode(both.tokens, both.area), both.prompts)
        exact = decoder(decoder.encode(alone.tokens, alone.area), alone.prompts)
    count = len(small.area)
    torch.testing.assert_close(padded.logits[1, ..., :count], exact.logits[0], atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(padded.predicted_iou[1], exact.predicted_iou[0], atol=1e-3, rtol=1e-3)


def test_a_window_is_a_canvas_of_its_own(nano: NanoBackbone, shapes: NDArray[np.uint8]) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, size=shapes.shape, dtype=np.uint8) // 2 + shapes // 2
    sample = sample_of(nano, annotated(noisy.astype(np.uint8)))
    part = window(sample, 0.5, np.random.default_rng(3))
    assert 64 <= len(part.area) < len(sample.area)
    torch.testing.assert_close(part.area.sum(), torch.tensor(1.0))
    assert part.tokens.planes.shape[1:] == (len(part.area), len(part.area))
    assert float(part.tokens.shape[:, 3:5].abs().max()) <= 1.001
    assert float(part.tokens.shape[:, 21:23].max()) == 1


def test_mirroring_twice_changes_nothing(nano: NanoBackbone, shapes: NDArray[np.uint8]) -> None:
    sample = sample_of(nano, annotated(shapes))
    assert torch.equal(mirror(mirror(sample)).tokens.shape, sample.tokens.shape)
    assert not torch.equal(mirror(sample).tokens.shape, sample.tokens.shape)


def test_views_keep_image_and_labels_together(shapes: NDArray[np.uint8]) -> None:
    picture = annotated(shapes)
    plain = AugmentConfig(longest_side=(120, 160), paste_probability=0, jitter=0)
    for seed in range(5):
        view = random_view(picture, None, plain, np.random.default_rng(seed))
        red = view.image[..., 0].astype(int) - view.image[..., 2] > 80
        assert ((view.label_maps[0] == 1) == red).mean() > 0.95


def test_a_pasted_object_is_a_segment_of_every_map(shapes: NDArray[np.uint8]) -> None:
    ground = AnnotatedPicture(
        "ground", np.full((100, 100, 3), 90, np.uint8), (np.zeros((100, 100), np.int32),) * 2, True
    )
    config = AugmentConfig(paste_probability=1, swarm_share=0, jitter=0, longest_side=(100, 100))
    view = random_view(ground, annotated(shapes), config, np.random.default_rng(0))
    first, second = view.label_maps
    assert (first == second).all()
    assert (first == 1).any()
    assert (np.abs(view.image[first == 0].astype(int) - 90) <= 2).mean() > 0.99


def test_a_swarm_is_many_alike_segments(shapes: NDArray[np.uint8]) -> None:
    ground = AnnotatedPicture("ground", np.full((200, 200, 3), 90, np.uint8), (np.zeros((200, 200), np.int32),), True)
    config = AugmentConfig(paste_probability=1, swarm_share=1, jitter=0, longest_side=(200, 200))
    for seed in range(5):
        view = random_view(ground, annotated(shapes), config, np.random.default_rng(seed))
        labels, areas = np.unique(view.label_maps[0], return_counts=True)
        assert len(labels) >= 5
        assert areas[1:].max() <= 0.05 * view.label_maps[0].size
        assert (np.abs(view.image[view.label_maps[0] == 0].astype(int) - 90) <= 2).mean() > 0.99


def test_boundary_targets_know_what_nobody_judged(shapes: NDArray[np.uint8]) -> None:
    target = boundary_target(annotated(shapes))
    assert target.shape == (60, 80)
    assert target[30, 10] == 1  # The left edge of the disc.
    assert target[30, 25] == 0
    labels = annotated(shapes).label_maps[0].copy()
    labels[labels != 1] = -1
    partial = boundary_target(AnnotatedPicture("partial", shapes, (labels,), complete=False))
    assert partial[30, 25] == 0
    assert partial[30, 60] == UNKNOWN


def test_cell_iou_weighs_by_area() -> None:
    masks = torch.tensor([[True, False, True]]).expand(3, 3)
    target = torch.tensor([1.0, 1.0, 0.5])
    area = torch.tensor([0.5, 0.25, 0.25])
    expected = (0.5 + 0.125) / (0.75 + 0.875 - 0.625)
    torch.testing.assert_close(cell_iou(masks, target, area), torch.full((3,), expected))
