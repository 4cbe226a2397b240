"""The stand-in for SAM 3's detector, and what method concepts makes of answers whose errors are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from everymask.backbone.concepts import FindsConcepts
from everymask.classes.config import ConceptsConfig
from everymask.errors import InputError
from everymask.evaluation.ground_truth.records import ClassTruth, InstanceTruth
from everymask.evaluation.semantic import match_classes
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.labels.doubt import image_doubt
from everymask.masks.rle import decode_mask, encode_mask, rle_areas, rle_ious
from everymask.records import ImageLabels
from everymask.research.oracle.concepts import (
    CONCEPTS_WITH_ERRORS,
    EXACT_CONCEPTS,
    ConceptErrors,
    NamedScene,
    OracleConcepts,
)

NAMES = ("cat", "dog", "bus")
SIZE_HW = (180, 320)


def scene(seed: int, objects: int = 6) -> NamedScene:
    """Discs on a grid, of random names and sizes, on an oblong picture of noise."""
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (*SIZE_HW, 3)).astype(np.uint8)
    ys, xs = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    found = []
    for index in range(objects):
        x, y, radius = 55 + 105 * (index % 3), 45 + 90 * (index // 3), generator.integers(12, 40)
        found.append((NAMES[generator.integers(3)], encode_mask((xs - x) ** 2 + (ys - y) ** 2 < radius**2)))
    return NamedScene(image, tuple(found))


SCENES = [scene(seed) for seed in range(12)]


def label(errors: ConceptErrors, *, tiles: int = 1, **settings: object) -> list[ImageLabels]:
    backbone = OracleConcepts(SCENES, errors)
    config = LabelConfig("concepts", tiles=tiles, concepts=ConceptsConfig(NAMES, **settings))  # type: ignore[arg-type]
    found = label_images(backbone, [one.image for one in SCENES], config)  # type: ignore[arg-type]
    assert all(isinstance(labels, ImageLabels) for labels in found)
    return found  # type: ignore[return-value]


def ap50(found: list[ImageLabels]) -> float:
    semantic = np.zeros(SIZE_HW, dtype=np.int32)
    truth = {
        str(index): ClassTruth(
            SIZE_HW,
            tuple(InstanceTruth(NAMES.index(name), rle, float(rle_areas([rle])[0])) for name, rle in one.objects),
            semantic,
        )
        for index, one in enumerate(SCENES)
    }
    value = match_classes({str(index): labels for index, labels in enumerate(found)}, truth, NAMES).figures().map50
    assert value is not None
    return value


def wrong(found: list[ImageLabels]) -> int:
    """Masks that are no object of their class, or one that another mask is already."""
    count = 0
    for labels, one in zip(found, SCENES, strict=True):
        taken: set[int] = set()
        for mask in labels.masks:
            iou = rle_ious([mask.rle], [rle for _, rle in one.objects])[0]
            best = int(iou.argmax())
            right = iou[best] > 0.5 and one.objects[best][0] == mask.class_name and best not in taken
            taken.add(best)
            count += not right
    return count


def test_without_errors_every_object_is_found_once_by_its_name() -> None:
    assert isinstance(OracleConcepts([]), FindsConcepts)
    for labels, one in zip(label(EXACT_CONCEPTS), SCENES, strict=True):
        assert len(labels.masks) == len(one.objects)
        iou = rle_ious([mask.rle for mask in labels.masks], [rle for _, rle in one.objects])
        assert iou.max(axis=1).min() > 0.9
        assert [one.objects[best][0] for best in iou.argmax(axis=1)] == [mask.class_name for mask in labels.masks]
        present = {name for name, _ in one.objects}
        assert labels.presence == tuple(float(name in present) for name in NAMES)
        assert labels.missed == 0
        for mask in labels.masks:
            x, y = mask.point_coords
            assert decode_mask(mask.rle)[int(y), int(x)]


def test_settling_drops_what_repeats_and_leaves_what_is_right() -> None:
    twice = ConceptErrors(twice=1.0, taken=1.0, shift_px=1.0, unsure=0.7, absent=1.0)
    kept, settled = label(twice, overlaps="keep"), label(twice)
    objects = sum(len(one.objects) for one in SCENES)
    # Each object twice by its name, once by each other name; then once, by the surest.
    assert wrong(kept) >= 2 * objects
    assert wrong(settled) == 0
    assert ap50(settled) == pytest.approx(1.0)


def test_a_higher_threshold_trades_what_is_found_for_what_is_right() -> None:
    low, high = label(CONCEPTS_WITH_ERRORS, score_thresh=0.3), label(CONCEPTS_WITH_ERRORS, score_thresh=0.8)
    assert wrong(high) < wrong(low)
    assert sum(len(labels.masks) for labels in high) < sum(len(labels.masks) for labels in low)
    # What a threshold leaves out is counted for the queue.
    assert sum(labels.missed or 0 for labels in high) > sum(labels.missed or 0 for labels in low)


def test_doubtful_images_are_those_with_errors() -> None:
    """The queue's order: images of sure answers come last."""
    sure = label(EXACT_CONCEPTS)
    unsure = label(replace(CONCEPTS_WITH_ERRORS, taken=1.0))
    doubts = [(image_doubt(one), image_doubt(other)) for one, other in zip(sure, unsure, strict=True)]
    assert all(low < high for low, high in doubts)


def test_the_answer_to_a_name_depends_on_no_other() -> None:
    backbone = OracleConcepts(SCENES, CONCEPTS_WITH_ERRORS)
    (embedding,) = backbone.embed([SCENES[0].image])
    view = backbone.view_for_concepts(embedding)
    for name, together in zip(NAMES, backbone.find_concepts(view, NAMES, 0.0), strict=True):
        (alone,) = backbone.find_concepts(view, [name], 0.0)
        assert torch.equal(alone.logits, together.logits)
        assert torch.equal(alone.scores, together.scores)
    with pytest.raises(InputError, match="is not annotated"):
        backbone.embed([np.zeros((4, 4, 3), np.uint8)])
