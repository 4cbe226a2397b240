from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.backbone.points import point_grid
from everymask.entities.config import EntityConfig
from everymask.entities.gallery import Gallery
from everymask.entities.overlaps import split_overlaps
from tests.entities.galleries import SIZE, box, gallery_of
from tests.entities.scenes import mask_set, pixels
from tests.entities.scripted import Reply, ScriptedBackbone, rectangle
from tests.entities.waits import Waits

AREA = torch.ones(SIZE[0] * SIZE[1])


def split(masks: Any, scores: Any, gallery: Gallery, **settings: Any) -> Any:
    result = split_overlaps(mask_set(masks, scores), gallery, AREA, EntityConfig(**settings))
    return pixels(result.masks, SIZE)


def test_a_small_overlap_is_cut_from_the_larger_mask_without_a_question() -> None:
    large, small = box(0, 25), box(24, 40)
    gallery = gallery_of([Reply.one(large)])
    np.testing.assert_array_equal(split([large, small], [0.95, 0.9], gallery), [box(0, 24), small])
    assert len(gallery.predicted_iou) == 0


@pytest.mark.parametrize(
    ("guide", "expected"), [(box(0, 24), [box(0, 24), box(24, 40)]), (box(16, 40), [box(0, 16), box(16, 40)])]
)
def test_a_large_overlap_goes_to_the_mask_the_guidance_resembles(
    guide: NDArray[np.bool_], expected: list[NDArray[np.bool_]]
) -> None:
    result = split([box(0, 24), box(16, 40)], [0.9, 0.95], gallery_of([Reply.one(guide)]))
    np.testing.assert_array_equal(result, expected[::-1])  # descending predicted IoU


def test_guidance_that_covers_half_of_the_overlap_divides_it() -> None:
    result = split([box(0, 24), box(16, 40)], [0.95, 0.9], gallery_of([Reply.one(box(0, 20))]))
    np.testing.assert_array_equal(result, [box(0, 20), box(20, 40)])


def test_a_part_in_its_whole_goes_when_the_object_guides_and_stays_when_the_best_does() -> None:
    whole, part = box(0, 40), box(10, 30, 5, 15)
    answer = Reply((whole, part, part), (0.9, 0.95, 0.95))
    np.testing.assert_array_equal(split([whole, part], [0.9, 0.95], gallery_of([answer])), [whole])
    strict = EntityConfig(gallery_points_per_side=20, guidance_tolerance=0.01)
    result = split([whole, part], [0.9, 0.95], gallery_of([answer], config=strict), guidance_tolerance=0.01)
    np.testing.assert_array_equal(result, [part, whole & ~part])


def test_the_guidance_most_prompts_give_wins() -> None:
    first, second = box(0, 24), box(16, 40)
    # Of the eight columns of the overlap, five answer with the second mask, in two slightly different versions.
    answers = [
        Reply.one(first),
        Reply.one(second),
        Reply.one(second & ~rectangle(SIZE, 39, 0, 40, 3), 0.8),
    ]
    result = split([first, second], [0.95, 0.9], gallery_of(answers, box(19, 22), box(22, 24)))
    np.testing.assert_array_equal(result, [box(0, 16), second])


def test_without_a_prompt_in_the_overlap_the_more_confident_mask_keeps_it() -> None:
    one_prompt = EntityConfig(gallery_points_per_side=1)
    gallery = gallery_of([Reply.one(box(0, 40))], config=one_prompt)
    result = split([box(2, 18), box(10, 19)], [0.9, 0.95], gallery)
    np.testing.assert_array_equal(result, [box(10, 19), box(2, 10)])


def test_a_mask_of_which_little_is_left_is_dropped() -> None:
    whole, slid = box(0, 30), box(4, 36)
    gallery = gallery_of([Reply.one(whole)])
    np.testing.assert_array_equal(split([whole, slid], [0.95, 0.9], gallery, remnant_thresh=0.3), [whole])
    kept = split([whole, slid], [0.95, 0.9], gallery, remnant_thresh=0.1)
    np.testing.assert_array_equal(kept, [whole, box(30, 36)])


def test_a_mask_worn_down_by_small_overlaps_is_dropped_too() -> None:
    """Each overlap is too small to be contested, a column of 25."""
    large, small = box(0, 25), box(24, 40)
    gallery = gallery_of([Reply.one(large)])
    np.testing.assert_array_equal(split([large, small], [0.95, 0.9], gallery, remnant_thresh=0.97), [small])
    kept = split([large, small], [0.95, 0.9], gallery, remnant_thresh=0.95)
    np.testing.assert_array_equal(kept, [box(0, 24), small])


def test_each_mask_keeps_what_the_model_said_of_it() -> None:
    claimed = [box(0, 24), box(30, 40), box(16, 26)]
    candidates = mask_set(claimed, [0.8, 0.9, 0.95])
    found = split_overlaps(candidates, gallery_of([Reply.one(claimed[2])]), AREA, EntityConfig())
    np.testing.assert_array_equal(pixels(found.masks, SIZE), [claimed[2], claimed[1], box(0, 16)])
    assert found.predicted_iou.tolist() == pytest.approx([0.95, 0.9, 0.8])
    assert torch.equal(found.logits, candidates.logits[[2, 1, 0]])


def test_no_candidate_gives_no_entity() -> None:
    none = mask_set([box(0, 1)], [0.9])[:0]
    gallery = gallery_of([Reply.one(box(0, 40))])
    assert len(split_overlaps(none, gallery, AREA, EntityConfig())) == 0


def test_an_unsure_gallery_mask_does_not_vote() -> None:
    first, second = box(0, 24), box(16, 40)
    config = EntityConfig(gallery_points_per_side=20)
    gallery = gallery_of([Reply.one(second, 0.5)], config=config)
    np.testing.assert_array_equal(split([first, second], [0.95, 0.9], gallery), [first, box(24, 40)])


def _iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    union = (first | second).sum()
    return (first & second).sum() / union if union else 0.0


def _chosen(voters: Any, masks: Any, scores: Any, same_thresh: float) -> Any:
    """The guidance mask that most of the voters give, all guidance masks being grouped by all voters' answers."""
    rest = sorted(dict.fromkeys(voters), key=lambda row: -scores[row])
    leader = {}
    while rest:
        best = rest[0]
        group = [row for row in rest if row == best or _iou(masks[best], masks[row]) > same_thresh]
        leader.update(dict.fromkeys(group, best))
        rest = [row for row in rest if row not in group]
    return leader


def split_slowly(masks: Any, scores: Any, answers: Any, cells: Any, config: EntityConfig | None) -> Any:
    """Eq. 5-6 as written, pair after pair; `answers` are the (mask, predicted IoU) of every grid point."""
    order = np.argsort(-np.array(scores, dtype=np.float32), kind="stable")
    originals = [masks[index] for index in order]
    scores = [np.float32(scores[index]) for index in order]
    now = [mask.copy() for mask in originals]
    least = [config.remnant_thresh * mask.sum() for mask in originals]
    pairs = [(p, q) for p in range(len(now)) for q in range(p + 1, len(now))]
    ever = config.overlap_thresh * config.remnant_thresh
    region = np.zeros_like(originals[0])
    for p, q in pairs:
        shared = originals[p] & originals[q]
        if shared.any() and shared.sum() >= ever * max(originals[p].sum(), originals[q].sum()):
            region |= shared
    guides, estimates = [mask for mask, _ in answers], [score for _, score in answers]
    leader = _chosen(
        [point for point in range(len(cells)) if region[cells[point]]], guides, estimates, config.vote_iou_thresh
    )
    for p, q in pairs:
        shared = now[p] & now[q]
        if not shared.any():
            continue
        if shared.sum() / max(now[p].sum(), now[q].sum()) < config.overlap_thresh:
            now[p if now[p].sum() >= now[q].sum() else q] &= ~shared
            continue
        votes = [leader[point] for point in range(len(cells)) if shared[cells[point]]]
        for_p = shared
        if votes:
            ranked = sorted(set(votes), key=lambda row: (-votes.count(row), -estimates[row], row))
            guide = guides[ranked[0]]
            like_p = _iou(guide, originals[p]) >= _iou(guide, originals[q])
            for_p = shared & guide if like_p else shared & ~guide
        now[p] &= ~shared | for_p
        now[q] &= ~shared | ~for_p
        for mask in (p, q):
            if now[mask].sum() < least[mask]:
                now[mask][:] = False
    return [mask for mask, enough in zip(now, least, strict=True) if mask.any() and mask.sum() >= enough]


@st.composite
def overlapping_scenes(draw: st.DrawFn) -> Any:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def shape() -> Any:
        x0, y0 = rng.integers(0, 32), rng.integers(0, 14)
        mask = rectangle(SIZE, x0, y0, rng.integers(x0 + 3, 41), rng.integers(y0 + 3, 21))
        cut = mask & ~rectangle(SIZE, *(rng.integers(0, 20, 2)), *(rng.integers(10, 40, 2)))
        return cut if cut.any() else mask

    masks = [shape() for _ in range(draw(st.integers(1, 8)))]
    answers = [Reply.one(shape(), float(rng.choice([0.5, 0.8, 0.9]))) for _ in range(draw(st.integers(1, 5)))]
    answers += [Reply.one(masks[0] | rectangle(SIZE, 0, 0, 3, 2), 0.7)]
    answer_map = np.kron(rng.integers(len(answers), size=(5, 8)), np.ones((4, 5), dtype=np.int64))
    scores = [float(value) for value in rng.choice([0.7, 0.8, 0.9], len(masks))]
    return masks, scores, answers, answer_map


@settings(max_examples=60)
@given(overlapping_scenes(), st.sampled_from([0.05, 0.3]), st.sampled_from([0.3, 0.6]))
def test_overlaps_are_settled_as_by_the_slow_way(scene: Any, overlap_thresh: float, vote_thresh: float) -> None:
    masks, scores, answers, answer_map = scene
    config = EntityConfig(
        gallery_points_per_side=9, overlap_thresh=overlap_thresh, vote_iou_thresh=vote_thresh, pred_iou_thresh=0.0
    )
    backbone = ScriptedBackbone(answers, answer_map)
    embedding = backbone.embed([np.zeros((*SIZE, 3), dtype=np.uint8)])[0]
    fast = split_overlaps(mask_set(masks, scores), Gallery(backbone, embedding, config), AREA, config)
    points = point_grid(SIZE, 9)
    cells = embedding.canvas.cells_at(points)
    table = [answers[entry] for entry in answer_map.ravel()[cells.numpy()]]
    said = [(answer.masks[0].ravel(), answer.predicted_iou[0]) for answer in table]
    slow = split_slowly([mask.ravel() for mask in masks], scores, said, cells.tolist(), config)
    assert fast.masks.tolist() == [mask.tolist() for mask in slow]


def test_a_gpu_would_wait_as_often_for_many_overlaps_as_for_few() -> None:
    def waits(count: int) -> list[str]:
        gallery = gallery_of([Reply.one(box(0, 24)), Reply.one(box(16, 40))], box(20, 40))
        masks = mask_set([box(start, start + 20) for start in range(count)], [0.9] * count)
        with Waits() as counted:
            split_overlaps(masks, gallery, AREA, EntityConfig())
        return counted.names

    assert waits(2) == waits(12)
