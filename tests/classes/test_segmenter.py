from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.features import FeatureKind
from everymask.classes.head import ClassHead, HeadSpec
from everymask.classes.recipes import PAPER_CLASSES, PAPER_MASKS
from everymask.classes.segmenter import (
    classify_masks,
    config_for,
    describe_masks,
    masks_asked_for,
    segment_classes,
)
from everymask.classes.uncertainty import normalised_entropy
from everymask.errors import ConfigurationError, HeadMismatchError
from everymask.masks.painting import semantic_map
from everymask.masks.rle import decode_mask, encode_mask
from everymask.records import ImageLabels
from tests.classes.toy import COLOURS, ColourBackbone, colour_head, picture

CHERRY_BOX = (4, 6, 20, 18)
LIME_BOX = (26, 20, 40, 36)


def label(image: NDArray[np.uint8], head: ClassHead | None = None, config: ClassesConfig | None = None) -> ImageLabels:
    config = config or ClassesConfig()
    backbone = ColourBackbone()
    return classify_masks(describe_masks(backbone, backbone.embed([image])[0], config), head or colour_head(), config)


def test_each_object_gets_its_mask_at_original_resolution_and_its_name() -> None:
    labels = label(picture([("cherry", CHERRY_BOX), ("lime", LIME_BOX)]))

    assert {mask.class_name: mask.box_xyxy for mask in labels.masks} == {"cherry": CHERRY_BOX, "lime": LIME_BOX}
    assert [mask.area for mask in sorted(labels.masks, key=lambda mask: mask.class_id)] == [16 * 12, 14 * 16]
    assert labels.coverage == pytest.approx((16 * 12 + 14 * 16) / (40 * 48))
    assert decode_mask(labels.masks[0].rle).shape == (40, 48)


@pytest.mark.parametrize("masks", [MaskConfig(), MaskConfig(**PAPER_MASKS)])
@pytest.mark.parametrize("features", ["token", "token+crop"])
def test_what_a_head_needs_of_itself_is_no_setting_of_the_run(features: FeatureKind, masks: MaskConfig) -> None:
    """Labels of masks that were kept have the ids of labels made from the images."""
    spec = HeadSpec(("cherry",), "colour", "a" * 64, features, 3, 3, crop_dim=2)
    made_with = config_for(spec, ClassesConfig(masks=masks)).masks
    assert made_with.describer == ("crop" if "crop" in features else "none")
    assert masks_asked_for(spec, made_with) == masks


def test_two_objects_of_one_class_are_two_masks_and_a_repeated_mask_is_one() -> None:
    labels = label(picture([("cherry", CHERRY_BOX), ("cherry", LIME_BOX)]))
    assert sorted(mask.box_xyxy for mask in labels.masks) == sorted([CHERRY_BOX, LIME_BOX])


def test_a_part_of_an_object_of_the_same_class_is_dropped_unless_containment_is_allowed() -> None:
    image = picture([("cherry", CHERRY_BOX)])
    backbone = ColourBackbone()
    config = ClassesConfig()
    embeddings = describe_masks(backbone, backbone.embed([image])[0], config)
    whole = next(i for i, rle in enumerate(embeddings.rles) if decode_mask(rle).sum() == 16 * 12)
    inner = np.zeros((40, 48), dtype=bool)
    inner[8:12, 6:12] = True
    nested = embeddings[np.array([whole, whole])]
    nested = replace(nested, rles=(nested.rles[0], encode_mask(inner)))
    assert len(classify_masks(nested, colour_head(), config).masks) == 1
    assert len(classify_masks(nested, colour_head(), ClassesConfig(nms_containment_thresh=1.0)).masks) == 2


def whole_and_surer_part() -> MaskEmbeddings:
    """A cherry's mask, and a part of it that is surer of the class but a poorer mask."""
    backbone = ColourBackbone()
    image = picture([("cherry", CHERRY_BOX)])
    embeddings = describe_masks(backbone, backbone.embed([image])[0], ClassesConfig())
    whole = next(i for i, rle in enumerate(embeddings.rles) if decode_mask(rle).sum() == 16 * 12)
    inner = np.zeros((40, 48), dtype=bool)
    inner[8:12, 6:12] = True
    pair = embeddings[np.array([whole, whole])]
    return replace(
        pair,
        rles=(embeddings.rles[whole], encode_mask(inner)),
        features=replace(
            pair.features, token=np.array([[0.8, 0.15, 0.15], np.array(COLOURS["cherry"]) / 255], dtype=np.float16)
        ),
        predicted_iou=np.array([0.9, 0.3], dtype=np.float32),
    )


def test_a_whole_outranks_a_part_of_it_that_is_surer_of_its_class_but_a_poorer_mask() -> None:
    (kept,) = classify_masks(whole_and_surer_part(), colour_head(20.0), ClassesConfig()).masks
    assert kept.area == 16 * 12
    assert 0.7 * 0.9 <= kept.score < 0.9


def test_as_published_masks_rank_by_probability_and_a_part_stays_beside_its_whole() -> None:
    pair, head = whole_and_surer_part(), colour_head(20.0)
    first, second = classify_masks(pair, head, replace(ClassesConfig(), **PAPER_CLASSES)).masks
    assert (first.area, second.area) == (4 * 6, 16 * 12)
    assert first.score == pytest.approx(float(head.probabilities(pair.features)[1, 0]))


def test_an_image_without_the_classes_has_no_mask() -> None:
    labels = label(picture([("plum", CHERRY_BOX)]), colour_head(200.0))
    assert labels.masks == ()
    assert labels.coverage == 0


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 60)])
def test_tiny_images_are_labelled(size_hw: tuple[int, int]) -> None:
    assert label(np.zeros((*size_hw, 3), dtype=np.uint8)).size_hw == size_hw


def test_masks_that_were_left_out_count_as_they_are_probable() -> None:
    image, head, backbone = picture([("cherry", CHERRY_BOX), ("lime", LIME_BOX)]), colour_head(4.0), ColourBackbone()
    config = ClassesConfig(score_thresh=1.0)
    masks = describe_masks(backbone, backbone.embed([image])[0], config)
    probable = head.probabilities(masks.features)[:, :-1].max(dim=1).values.numpy()
    evidence = probable * np.clip(masks.predicted_iou, 0, 1)

    assert label(image, head, config).missed == pytest.approx(evidence.sum(), rel=1e-5)
    named = label(image, head).missed
    assert named is not None
    assert 0 <= named < evidence.sum() - 1  # two masks were named


def test_thresholds_can_differ_by_class() -> None:
    image = picture([("cherry", CHERRY_BOX), ("lime", LIME_BOX)])
    # With this sharpness both are right with a probability of about 0.85.
    head = colour_head(4.0)
    scores = {mask.class_name: mask.score for mask in label(image, head).masks}
    strict = ClassesConfig(class_score_thresh={"lime": 0.99})
    assert set(scores) == {"cherry", "lime"}
    assert {mask.class_name for mask in label(image, head, strict).masks} == {"cherry"}


def test_a_head_says_its_threshold_unless_another_is_asked_for() -> None:
    image = picture([("cherry", CHERRY_BOX), ("lime", LIME_BOX)])
    # Both are right with a probability of about 0.85.
    head = colour_head(4.0)
    head.spec = replace(head.spec, score_thresh=0.99)
    assert label(image, head).masks == ()
    assert len(label(image, head, ClassesConfig(score_thresh=0.7)).masks) == 2
    assert len(label(image, head, ClassesConfig(class_score_thresh={"lime": 0.7})).masks) == 1


def test_a_threshold_for_an_unknown_class_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="pear"):
        label(picture([]), config=ClassesConfig(class_score_thresh={"pear": 0.5}))


def test_a_head_of_other_weights_is_refused() -> None:
    with pytest.raises(HeadMismatchError, match="bbbbbbbbbbbb"):
        label(picture([]), colour_head(sha256="b" * 64))


def test_labelling_an_image_and_labelling_its_embeddings_agree() -> None:
    backbone = ColourBackbone()
    embedding = backbone.embed([picture([("cherry", CHERRY_BOX), ("lime", LIME_BOX)])])[0]
    config = ClassesConfig(score_thresh=0.3)
    stored = classify_masks(describe_masks(backbone, embedding, config), colour_head(3.0), config)
    assert segment_classes(backbone, embedding, colour_head(3.0), config) == stored
    assert stored.masks


@pytest.mark.filterwarnings("error")
def test_masks_that_came_from_another_process_are_named_without_a_warning() -> None:
    backbone, config = ColourBackbone(), ClassesConfig(score_thresh=0.3)
    masks = describe_masks(backbone, backbone.embed([picture([("cherry", CHERRY_BOX)])])[0], config)
    masks.predicted_iou.flags.writeable = False  # as Ray hands arrays on
    assert classify_masks(masks, colour_head(3.0), config).masks


def test_the_semantic_map_shows_the_most_probable_class_where_masks_overlap() -> None:
    labels = label(picture([("cherry", CHERRY_BOX), ("lime", LIME_BOX)]))
    pixels = semantic_map(labels)
    assert pixels[10, 10] == 1
    assert pixels[30, 30] == 2
    assert pixels[0, 0] == 0

    cherry, lime = sorted(labels.masks, key=lambda mask: mask.class_id)
    surer = replace(lime, rle=cherry.rle, box_xyxy=cherry.box_xyxy, score=1.0)
    less = replace(cherry, score=0.9)
    for order in ((surer, less), (less, surer)):
        assert semantic_map(replace(labels, masks=order))[10, 10] == 2


def test_normalised_entropy_is_zero_when_certain_and_one_when_uniform() -> None:
    values = normalised_entropy(torch.tensor([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]]))
    assert values.tolist() == pytest.approx([0.0, 1.0])


def test_uncertainty_is_the_entropy_of_what_the_head_says_of_the_mask() -> None:
    image = picture([("cherry", CHERRY_BOX)])
    found = []
    for sharpness in (4.0, 2.0):
        head = colour_head(sharpness)
        (mask,) = label(image, head, ClassesConfig(score_thresh=0.0, nms_iou_thresh=0.1)).masks[:1]
        logits = head(torch.tensor([COLOURS["cherry"]]) / 255)
        expected = float(normalised_entropy(logits.softmax(dim=-1))[0])
        assert mask.uncertainty == pytest.approx(expected, abs=0.02)
        found.append(mask.uncertainty)
    assert 0.05 < found[0] < found[1] < 1
