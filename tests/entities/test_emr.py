import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from everymask.entities.config import EntityConfig
from everymask.entities.emr import mask_similarity, merge_similar, split_overlaps
from everymask.entities.gallery import Gallery
from tests.entities.scenes import mask_set, pixels
from tests.entities.scripted import Answer, ScriptedBackbone, painted, rectangle

SIZE = (20, 40)
AREA = torch.ones(SIZE[0] * SIZE[1])


def box(x0, x1, y0=0, y1=20):
    return rectangle(SIZE, x0, y0, x1, y1)


def gallery_of(answers, *regions, config=None):
    """Answer 0 outside the regions, answer i + 1 on region i."""
    backbone = ScriptedBackbone(answers, painted(SIZE, *regions))
    embedding = backbone.embed([np.zeros((*SIZE, 3), dtype=np.uint8)])[0]
    return Gallery(backbone, embedding, config or EntityConfig(gallery_points_per_side=20))


def split(masks, scores, gallery, **settings):
    result = split_overlaps(mask_set(masks, scores), gallery, AREA, EntityConfig(**settings))
    return pixels(result.masks, SIZE)


def test_a_small_overlap_is_cut_from_the_larger_mask_without_a_question():
    large, small = box(0, 25), box(24, 40)
    gallery = gallery_of([Answer.one(large)])
    np.testing.assert_array_equal(split([large, small], [0.95, 0.9], gallery), [box(0, 24), small])
    assert gallery.num_decoded == 0


@pytest.mark.parametrize(
    ("guide", "expected"), [(box(0, 24), [box(0, 24), box(24, 40)]), (box(16, 40), [box(0, 16), box(16, 40)])]
)
def test_a_large_overlap_goes_to_the_mask_the_guidance_resembles(guide, expected):
    result = split([box(0, 24), box(16, 40)], [0.9, 0.95], gallery_of([Answer.one(guide)]))
    np.testing.assert_array_equal(result, expected[::-1])  # descending predicted IoU


def test_guidance_that_covers_half_of_the_overlap_divides_it():
    result = split([box(0, 24), box(16, 40)], [0.95, 0.9], gallery_of([Answer.one(box(0, 20))]))
    np.testing.assert_array_equal(result, [box(0, 20), box(20, 40)])


def test_a_part_in_its_whole_goes_when_the_object_guides_and_stays_when_the_best_does():
    whole, part = box(0, 40), box(10, 30, 5, 15)
    answer = Answer((whole, part, part), (0.9, 0.95, 0.95))
    np.testing.assert_array_equal(split([whole, part], [0.9, 0.95], gallery_of([answer])), [whole])
    strict = EntityConfig(gallery_points_per_side=20, guidance_tolerance=0.01)
    result = split([whole, part], [0.9, 0.95], gallery_of([answer], config=strict), guidance_tolerance=0.01)
    np.testing.assert_array_equal(result, [part, whole & ~part])


def test_the_guidance_most_prompts_give_wins():
    first, second = box(0, 24), box(16, 40)
    # Of the eight columns of the overlap, five answer with the second mask, in two slightly different versions.
    answers = [Answer.one(first), Answer.one(second), Answer.one(second & ~rectangle(SIZE, 39, 0, 40, 3), 0.8)]
    result = split([first, second], [0.95, 0.9], gallery_of(answers, box(19, 22), box(22, 24)))
    np.testing.assert_array_equal(result, [box(0, 16), second])


def test_without_a_prompt_in_the_overlap_the_more_confident_mask_keeps_it():
    one_prompt = EntityConfig(gallery_points_per_side=1)
    gallery = gallery_of([Answer.one(box(0, 40))], config=one_prompt)
    result = split([box(2, 18), box(10, 19)], [0.9, 0.95], gallery)
    np.testing.assert_array_equal(result, [box(10, 19), box(2, 10)])


def test_a_mask_of_which_little_is_left_is_dropped():
    whole, slid = box(0, 30), box(4, 36)
    gallery = gallery_of([Answer.one(whole)])
    np.testing.assert_array_equal(split([whole, slid], [0.95, 0.9], gallery, remnant_thresh=0.3), [whole])
    kept = split([whole, slid], [0.95, 0.9], gallery, remnant_thresh=0.1)
    np.testing.assert_array_equal(kept, [whole, box(30, 36)])


def test_no_candidate_gives_no_entity():
    none = mask_set([box(0, 1)], [0.9])[:0]
    gallery = gallery_of([Answer.one(box(0, 40))])
    assert len(split_overlaps(none, gallery, AREA, EntityConfig())) == 0
    merged = merge_similar(none, gallery, torch.ones(3, 2), torch.arange(3), AREA, EntityConfig())
    assert len(merged) == 0


def similarity_by_definition(masks, features, cells, k):
    """Eq. 7, one superpixel after another."""
    result = np.zeros((len(masks), len(masks)))
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    for i, mask_i in enumerate(masks):
        own = [c for c in range(len(cells)) if mask_i[cells[c]]]
        for j, mask_j in enumerate(masks):
            for c in own:
                others = sorted((d for d in range(len(cells)) if d != c), key=lambda d: (-(unit[c] @ unit[d]), d))
                result[i, j] += sum(mask_j[cells[d]] for d in others[:k]) / len(own)
    return result


@given(st.data())
def test_similarity_follows_equation_seven(data):
    count, cells = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 9))
    masks = data.draw(hnp.arrays(np.bool_, (data.draw(st.integers(0, 4)), cells)))
    # Axis directions: similarities are exactly 0, 1 or -1, so ties are real ties.
    directions = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    features = directions[data.draw(hnp.arrays(np.int64, count, elements=st.integers(0, 2)))]
    centroid_cells = data.draw(hnp.arrays(np.int64, count, elements=st.integers(0, cells - 1)))
    k = data.draw(st.integers(1, 4))
    ours = mask_similarity(torch.from_numpy(masks), torch.from_numpy(features), torch.from_numpy(centroid_cells), k)
    np.testing.assert_allclose(ours.numpy(), similarity_by_definition(masks, features, centroid_cells, k), atol=1e-5)


LEFT, MIDDLE, RIGHT = box(0, 10), box(10, 20), box(20, 40)
CENTROIDS = torch.tensor([5, 6, 15, 16, 30, 31])  # cells of the first row: two superpixels in each mask
ALIKE_LEFT = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.05], [1.0, 0.15], [0.0, 1.0], [0.1, 1.0]])


def merge(gallery, features=ALIKE_LEFT, **settings):
    config = EntityConfig(**{"merge_neighbours": 2, "merge_thresh": 1.0, **settings})
    return merge_similar(mask_set([LEFT, MIDDLE, RIGHT], [0.9, 0.8, 0.7]), gallery, features, CENTROIDS, AREA, config)


def test_similar_masks_merge_when_a_gallery_mask_holds_both():
    entities = merge(gallery_of([Answer.one(LEFT | MIDDLE)]))
    np.testing.assert_array_equal(pixels(entities.masks, SIZE), [LEFT | MIDDLE, RIGHT])
    assert entities.predicted_iou.tolist() == pytest.approx([0.85, 0.7])
    assert (entities.logits[0] > 0).tolist() == (LEFT | MIDDLE).flatten().tolist()


def test_similar_masks_stay_apart_when_no_gallery_mask_holds_both():
    assert len(merge(gallery_of([Answer.one(LEFT), Answer.one(MIDDLE)], MIDDLE))) == 3


def test_dissimilar_masks_stay_apart_whatever_the_gallery_says():
    everything = Answer.one(box(0, 40))
    apart = torch.tensor([[1.0, 0, 0], [1.0, 0.1, 0], [0, 1, 0], [0, 1, 0.1], [0, 0, 1], [0.1, 0, 1]])
    config = {"merge_thresh": 1.5}
    assert len(merge(gallery_of([everything]), features=apart, **config)) == 3


def test_mergers_go_on_until_no_pair_is_left():
    alike = torch.ones(6, 2)
    entities = merge(gallery_of([Answer.one(box(0, 40))]), features=alike, merge_thresh=0.5)
    np.testing.assert_array_equal(pixels(entities.masks, SIZE), [box(0, 40)])
