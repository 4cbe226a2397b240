from __future__ import annotations

import numpy as np
import torch

from everymask.backbone.protocol import Canvas, ImageEmbedding
from everymask.backbone.sam import SamBackbone
from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.segmenter import describe_masks
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig
from everymask.records import ImageLabels
from serve.cache import BoundedCache, answer_bytes, embedding_bytes, entry_bytes
from tests.serve.pictures import picture


def embedding(floats: int) -> ImageEmbedding:
    canvas = Canvas(torch.zeros(2, 2, dtype=torch.int64), torch.tensor([4.0]), (2, 2))
    return ImageEmbedding(canvas, np.zeros((2, 2, 3), np.uint8), {"f": torch.zeros(floats)}, "sha")


def embedding_cache(max_bytes: int) -> BoundedCache[str, ImageEmbedding]:
    return BoundedCache(max_bytes, embedding_bytes)


BASE = 2 * 2 * 8 + 4 + 2 * 2 * 3


def test_size_counts_every_tensor_and_the_canvas() -> None:
    assert embedding_bytes(embedding(10)) == BASE + 40


def test_the_least_recently_used_goes_first() -> None:
    cache = embedding_cache(3 * (BASE + 40 + entry_bytes("a")))
    for name in "abc":
        cache.put(name, embedding(10))
    assert cache.get("a") is not None
    cache.put("d", embedding(10))
    assert [name for name in "abcd" if cache.get(name) is not None] == ["a", "c", "d"]
    assert cache.held_bytes == 3 * (BASE + 40 + entry_bytes("a"))


def test_bytes_stay_bounded_whatever_is_put() -> None:
    limit = 8_000
    cache = embedding_cache(limit)
    random = np.random.default_rng(0)
    for _ in range(500):
        cache.put(str(random.integers(0, 20)), embedding(int(random.integers(0, 600))))
        assert cache.held_bytes <= limit
        held = {name: cache.get(name) for name in map(str, range(20))}
        assert cache.held_bytes == sum(
            embedding_bytes(item) + entry_bytes(name) for name, item in held.items() if item is not None
        )


def test_one_too_large_is_not_kept_and_its_old_version_is_gone() -> None:
    cache = embedding_cache(BASE + 40 + entry_bytes("a"))
    cache.put("a", embedding(10))
    cache.put("a", embedding(1000))
    assert cache.get("a") is None
    assert (len(cache), cache.held_bytes) == (0, 0)


def test_an_answers_size_counts_its_masks_and_arrays(tiny_sam: SamBackbone) -> None:
    image = tiny_sam.embed([np.asarray(picture(0))])[0]
    masks = describe_masks(tiny_sam, image, ClassesConfig(masks=MaskConfig(points_per_side=4)))
    counts = sum(len(rle["counts"]) for rle in masks.rles)
    assert len(masks) > 0
    assert answer_bytes(masks) > counts + masks.features.token.nbytes
    labels = segment_amg(tiny_sam, image, AmgConfig(points_per_side=4, pred_iou_thresh=0, stability_score_thresh=0))
    assert answer_bytes(labels) > sum(len(mask.rle["counts"]) for mask in labels.masks)


def test_answers_without_masks_do_not_pile_up() -> None:
    cache = BoundedCache[str, ImageLabels](100_000, answer_bytes)
    for image in range(1000):
        cache.put(f"owner/{image:064}", ImageLabels((8, 8), (), 0.0))
    assert cache.held_bytes <= 100_000
    assert len(cache) < 100


def test_long_keys_count() -> None:
    cache = BoundedCache[tuple[str, ...], ImageLabels](100_000, answer_bytes)
    for image in range(100):
        cache.put((str(image), "n" * 10_000), ImageLabels((8, 8), (), 0.0))
    assert len(cache) < 10
