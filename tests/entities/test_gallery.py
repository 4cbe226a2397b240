from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.protocol import PromptableBackbone, PromptMasks
from everymask.backbone.sam import SamBackbone, make_backbone
from everymask.backbone.sam.prompt_decoder import OUTSIDE
from everymask.entities.config import EntityConfig
from everymask.entities.gallery import Gallery
from tests.entities.scattered import random_image, scattered_sam
from tests.entities.scripted import Reply, ScriptedBackbone, painted, rectangle

SIZE = (16, 16)
WHOLE, LEFT = rectangle(SIZE, 0, 0, 16, 16), rectangle(SIZE, 0, 0, 8, 16)
TOP, CORNER = rectangle(SIZE, 0, 0, 16, 8), rectangle(SIZE, 0, 0, 8, 8)


def gallery_of(backbone: ScriptedBackbone, **settings: Any) -> Gallery:
    embedding = backbone.embed([np.zeros((*SIZE, 3), dtype=np.uint8)])[0]
    return Gallery(
        backbone,
        embedding,
        EntityConfig(**{"gallery_points_per_side": 8, "pred_iou_thresh": 0.0, **settings}),
    )


def region(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask.ravel()


def voted(gallery: Gallery, mask: NDArray[np.bool_]) -> tuple[Any, list[int]]:
    """The guidance masks of a region, by how many points vote for each."""
    votes = gallery.votes(region(mask))
    counts = np.bincount(votes.choice, minlength=len(votes.masks))
    return votes.masks.unpack().reshape(-1, *SIZE), counts.tolist()


def test_the_object_guides_unless_the_best_mask_is_better_by_the_tolerance() -> None:
    close, far = (
        Reply((WHOLE, LEFT, CORNER), (0.85, 0.9, 0.1)),
        Reply((WHOLE, CORNER, CORNER), (0.5, 0.95, 0.1)),
    )
    gallery = gallery_of(ScriptedBackbone([close, far], painted(SIZE, TOP)), guidance_tolerance=0.1)
    masks, counts = voted(gallery, WHOLE)
    np.testing.assert_array_equal(masks, [CORNER, WHOLE])
    assert counts == [32, 32]
    # A difference of exactly τ is the best mask's.
    exact = gallery_of(
        ScriptedBackbone([Reply((WHOLE, LEFT, CORNER), (0.5, 0.75, 0.1))], painted(SIZE)),
        guidance_tolerance=0.25,
    )
    np.testing.assert_array_equal(voted(exact, WHOLE)[0], [LEFT])


def test_only_prompts_in_the_region_vote_and_each_distinct_one_is_decoded_once() -> None:
    answers = [Reply.one(WHOLE), Reply.one(TOP), Reply.one(CORNER)]
    backbone = ScriptedBackbone(answers, painted(SIZE, TOP, CORNER))
    gallery = gallery_of(backbone)
    assert backbone.decoded == 0
    masks, counts = voted(gallery, TOP)
    np.testing.assert_array_equal(masks, [CORNER, TOP])  # equally sure, so in the order of the grid
    assert counts == [16, 16]
    assert backbone.decoded == 2
    gallery.votes(region(WHOLE))
    gallery.votes(region(LEFT))
    assert backbone.decoded == 3


def test_lazy_and_eager_answer_alike() -> None:
    answers = [Reply.one(WHOLE, 0.7), Reply.one(TOP, 0.8), Reply.one(CORNER, 0.9)]
    answer_map = painted(SIZE, TOP, CORNER)
    lazy, eager = (gallery_of(ScriptedBackbone(answers, answer_map), lazy_gallery=value) for value in (True, False))
    assert len(lazy.predicted_iou) == 0 < len(eager.predicted_iou)
    for mask in (CORNER, LEFT, TOP, WHOLE, ~TOP):
        mine, theirs = lazy.votes(region(mask)), eager.votes(region(mask))
        np.testing.assert_array_equal(mine.masks.words, theirs.masks.words)
        for name in ("cells", "choice"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
        np.testing.assert_array_equal(
            lazy.masks.words[lazy.rows_in(region(mask))], eager.masks.words[eager.rows_in(region(mask))]
        )


def test_a_region_between_the_prompts_has_no_guidance() -> None:
    backbone = ScriptedBackbone([Reply.one(WHOLE)], painted(SIZE))
    votes = gallery_of(backbone).votes(region(rectangle(SIZE, 0, 0, 1, 1)))
    assert len(votes.masks) == 0
    assert votes.most_frequent(np.ones(256, dtype=np.bool_), 0) is None
    assert backbone.decoded == 0


def test_a_prompt_whose_chosen_mask_is_not_confident_does_not_vote() -> None:
    close, sure = (
        Reply((WHOLE, LEFT, CORNER), (0.85, 0.93, 0.1)),
        Reply((WHOLE, TOP, CORNER), (0.7, 0.9, 0.1)),
    )
    gallery = gallery_of(ScriptedBackbone([close, sure], painted(SIZE, TOP)), pred_iou_thresh=0.88)
    masks, counts = voted(gallery, WHOLE)
    np.testing.assert_array_equal(masks, [TOP])
    assert counts == [32]


def test_votes_for_nearly_equal_masks_count_as_one() -> None:
    """60 of 64 columns are shared: an IoU of 0.9375. Neither wins alone against what a third of the points say."""
    size = (4, 64)
    wide, narrow, other = rectangle(size, 0, 0, 64, 4), rectangle(size, 0, 0, 60, 4), rectangle(size, 40, 0, 64, 4)
    answers = [Reply.one(wide, 0.8), Reply.one(narrow, 0.9), Reply.one(other, 0.7)]
    places = rectangle(size, 20, 0, 40, 4), rectangle(size, 40, 0, 64, 4)

    def winner(vote_iou_thresh: float) -> list[list[bool]]:
        backbone = ScriptedBackbone(answers, painted(size, *places))
        embedding = backbone.embed([np.zeros((*size, 3), dtype=np.uint8)])[0]
        config = EntityConfig(gallery_points_per_side=16, pred_iou_thresh=0.0, vote_iou_thresh=vote_iou_thresh)
        votes = Gallery(backbone, embedding, config).votes(np.ones(256, dtype=np.bool_))
        chosen = votes.most_frequent(np.ones(256, dtype=np.bool_), 0)
        assert chosen is not None
        found: list[list[bool]] = votes.masks.unpack()[chosen].reshape(size).tolist()
        return found

    assert winner(0.93) == narrow.tolist(), "the surer of the two stands for both"
    assert winner(0.94) == other.tolist()


class _AnswersAll:
    """A backbone that scales up every answer."""

    def __init__(self, backbone: PromptableBackbone) -> None:
        self._backbone = backbone

    def __getattr__(self, name: str) -> Any:
        if name == "decode_sure_points":
            raise AttributeError(name)
        return getattr(self._backbone, name)


def test_answers_that_are_not_scaled_up_change_no_guidance() -> None:
    backbone = make_backbone(scattered_sam(), name="vit_b", weights_sha256="0" * 64, device=torch.device("cpu"))
    (embedding,) = backbone.embed([random_image((96, 150))])
    config = EntityConfig(
        gallery_points_per_side=12, pred_iou_thresh=0.95, stability_score_thresh=0.0, lazy_gallery=False
    )
    expected = Gallery(cast(PromptableBackbone, _AnswersAll(backbone)), embedding, config)
    asked: list[PromptMasks] = []

    def answered(*of: Any) -> PromptMasks:
        asked.append(SamBackbone.decode_sure_points(backbone, *of))
        return asked[-1]

    backbone.decode_sure_points = answered  # type: ignore[method-assign]
    gallery = Gallery(backbone, embedding, config)
    assert len(expected.masks) > 1
    assert np.array_equal(gallery.masks.words, expected.masks.words)
    assert np.array_equal(gallery.predicted_iou, expected.predicted_iou)
    skipped = torch.cat([(batch.logits == OUTSIDE).all(dim=2).all(dim=1) for batch in asked])
    assert 0 < skipped.sum() < len(skipped)
