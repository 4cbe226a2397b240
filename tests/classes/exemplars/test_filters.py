from __future__ import annotations

import numpy as np

from everymask.classes.config import ClassesConfig
from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.exemplars.filters import DuplicateFilter, SingleObjectFilter
from everymask.classes.segmenter import describe_masks
from tests.classes.toy import ColourBackbone, picture


def masks_of(*objects: tuple[str, tuple[int, int, int, int]]) -> MaskEmbeddings:
    backbone = ColourBackbone()
    return describe_masks(backbone, backbone.embed([picture(objects)])[0], ClassesConfig())


def test_a_picture_with_one_clear_object_passes() -> None:
    assert SingleObjectFilter().problem(masks_of(("cherry", (10, 8, 34, 30)))) is None


def test_a_picture_of_background_or_of_specks_does_not() -> None:
    assert "0.0%" in SingleObjectFilter().problem(masks_of())
    assert "0.8%" in SingleObjectFilter().problem(masks_of(("cherry", (10, 8, 14, 12))))


def test_a_picture_without_masks_does_not() -> None:
    assert SingleObjectFilter().problem(masks_of()[np.zeros(0, dtype=np.int64)]) == "no mask"


def test_the_perceptual_hash_ignores_brightness_and_compares_bits() -> None:
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(40, 200, (8, 8, 1)), np.ones((16, 16, 3))).astype(np.uint8)
    duplicates = DuplicateFilter(max_distance=4)
    duplicates.remember("cat", duplicates.hash(image))
    assert duplicates.problem("cat", duplicates.hash(image + 20)) is not None
    assert duplicates.problem("cat", duplicates.hash(image[::-1])) is None
    assert duplicates.problem("dog", duplicates.hash(image)) is None
