from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from everymask.evaluation.ground_truth import UNLABELLED, AnnotatedPicture, PictureReference
from everymask.research.nano_training.augment import AugmentConfig, random_square
from everymask.research.nano_training.borders import group_loss, training_crop
from everymask.research.nano_training.boundaries import UNKNOWN
from everymask.research.nano_training.ground_truth import VIEWS, planned_views
from tests.research.nano_training.annotated import annotated

PLAIN = AugmentConfig(longest_side=(120, 160), jitter=0)


def test_a_square_keeps_image_and_labels_together(shapes: NDArray[np.uint8]) -> None:
    for seed in range(5):
        view = random_square(annotated(shapes), None, 96, PLAIN, np.random.default_rng(seed))
        assert view.image.shape == (96, 96, 3)
        red = view.image[..., 0].astype(int) - view.image[..., 2] > 80
        assert ((view.label_maps[0] == 1) == red).mean() > 0.95
    assert (
        len(
            {
                random_square(annotated(shapes), None, 96, PLAIN, np.random.default_rng(s)).image.tobytes()
                for s in (0, 1)
            }
        )
        == 2
    )


def test_beyond_a_small_view_nothing_is_labelled_or_learned(shapes: NDArray[np.uint8]) -> None:
    view = random_square(annotated(shapes), None, 256, PLAIN, np.random.default_rng(0))
    height = int((view.label_maps[0][:, 0] != UNLABELLED).sum())
    assert 0 < height < 256
    image, border, labels = training_crop(view, np.random.default_rng(0))
    assert image.shape == (3, 256, 256)
    assert labels.shape == (32, 32)
    assert bool((border[height // 2 + 2 :] == UNKNOWN).all())
    assert bool((labels[height // 8 + 1 :] == UNLABELLED).all())


def test_borders_of_coarse_masks_are_not_learned(shapes: NDArray[np.uint8]) -> None:
    picture = annotated(shapes)
    coarse = AnnotatedPicture(picture.name, picture.image, picture.label_maps, complete=False, sharp=False)
    view = random_square(coarse, None, 96, PLAIN, np.random.default_rng(0))
    _, border, labels = training_crop(view, np.random.default_rng(0))
    assert bool((border == UNKNOWN).all())
    assert bool((labels != UNLABELLED).any())


def test_groups_are_right_when_segments_are_apart_and_unlabelled_pairs_do_not_count() -> None:
    labels = torch.full((1, 8, 8), UNLABELLED)
    labels[0, :, :2], labels[0, :, 2:4] = 0, 1
    place = torch.zeros(1, 2, 8, 8)
    place[0, 0, :, 2:4] = 3.0
    place[0, 1] = 9.0 * (labels[0] == UNLABELLED) + 5 * torch.rand(8, 8) * (labels[0] == UNLABELLED)
    loss, right = group_loss(place, labels, 200)
    assert right == 1
    assert float(loss) < 0.02
    torch.manual_seed(0)
    loss, right = group_loss(torch.zeros(1, 2, 8, 8), labels, 200)
    assert right == pytest.approx(0.5)  # All together: right within segments, wrong between them.
    assert float(group_loss(torch.zeros(1, 2, 8, 8), torch.full((1, 8, 8), UNLABELLED), 9)[0]) == 0


def test_planned_views_keep_the_shares_of_the_sources_first_views_first() -> None:
    def unread() -> AnnotatedPicture:
        raise AssertionError

    pictures = [PictureReference(f"{source}/train/{i}", unread) for source in ("bsds500", "voc") for i in range(10)]
    planned = planned_views(pictures, 2.0)
    counts = {source: sum(p.name.startswith(source) for p, _ in planned) for source in ("bsds500", "voc")}
    assert counts == {source: round(10 * 2 * VIEWS[source]) for source in counts}
    assert [view for _, view in planned] == sorted(view for _, view in planned)
    assert planned_views(pictures, 1.0)[: len(pictures) // 2] == [(p, 0) for p in pictures[:10]]
