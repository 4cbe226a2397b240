"""Method concepts over a small SAM 3: which masks stay, what is said of them, and which model is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.classes.concepts import load_concepts, settle
from everymask.classes.config import ConceptsConfig
from everymask.errors import ConfigurationError
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.labelling.names import with_names
from everymask.masks.rle import decode_mask, rle_ious
from everymask.records import ImageLabels
from tests.backbone.sam3.tiny import save_tiny_sam3

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
NAMES = "animals=cat+dog,bus,-tree"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> PromptableBackbone:
    return load_backbone("sam3", save_tiny_sam3(tmp_path_factory.mktemp("sam3")), "cpu")


def label(backbone: PromptableBackbone, names: str = NAMES, tiles: int = 1, **settings: object) -> ImageLabels:
    config = with_names(LabelConfig("concepts", tiles=tiles), names)
    config = replace(config, concepts=replace(config.concepts, **{"score_thresh": 0.1, **settings}))  # type: ignore[arg-type]
    (labels,) = label_images(backbone, [IMAGE], config)
    assert isinstance(labels, ImageLabels)
    return labels


def test_kept_masks_are_those_of_every_name_alone(backbone: PromptableBackbone) -> None:
    together = label(backbone, overlaps="keep")
    alone = [mask for name in ("cat", "dog", "bus") for mask in label(backbone, name, overlaps="keep").masks]
    assert len(together.masks) == len(alone) > 20
    alone.sort(key=lambda mask: -mask.score)
    # Rounding differs with the size of a batch.
    assert [mask.score for mask in together.masks] == pytest.approx([mask.score for mask in alone], abs=1e-5)
    iou = rle_ious([mask.rle for mask in together.masks], [mask.rle for mask in alone])
    assert iou.max(axis=0).min() > 0.99
    assert {mask.class_name for mask in together.masks} == {"animals", "bus"}
    for mask in together.masks:
        assert mask.predicted_iou is None
        wanted = -sum(p * np.log2(p) for p in (mask.score, 1 - mask.score))
        assert mask.uncertainty == pytest.approx(wanted, abs=1e-4)
    # Masks of a random model are specks, some thinner than where they are surest.
    inside = [decode_mask(mask.rle)[int(mask.point_coords[1]), int(mask.point_coords[0])] for mask in together.masks]
    assert np.mean(inside) > 0.8
    # Presence of a class is that of the phrase that is likeliest there.
    cat, dog = (label(backbone, name).presence for name in ("cat", "dog"))
    assert cat is not None
    assert dog is not None
    assert together.presence is not None
    assert together.presence[0] == pytest.approx(max(cat[0], dog[0]), abs=1e-5)
    assert all(mask.score <= together.presence[mask.class_id or 0] for mask in together.masks)


def test_settled_masks_repeat_nothing_and_negatives_take_their_masks(backbone: PromptableBackbone) -> None:
    kept, settled = label(backbone, overlaps="keep"), label(backbone)
    assert 0 < len(settled.masks) < len(kept.masks)
    assert rle_ious([mask.rle for mask in settled.masks], [mask.rle for mask in kept.masks]).max(axis=1).min() > 0.99
    for tiles in (1, 2):
        # Specks of a few pixels may become alike where they are enlarged.
        masks = [mask for mask in label(backbone, tiles=tiles).masks if mask.area > 200]
        assert masks
        iou = rle_ious([mask.rle for mask in masks], [mask.rle for mask in masks])
        for i, one in enumerate(masks):
            for j, other in enumerate(masks[:i]):
                assert iou[i, j] <= (0.5 if one.class_id == other.class_id else 0.71)


def test_the_likelier_class_keeps_what_both_claim() -> None:
    iou = torch.tensor([[1.0, 0.8, 0.6, 0.0], [0.8, 1.0, 0.6, 0.0], [0.6, 0.6, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    areas = torch.full((4,), 100.0)
    scores = torch.tensor([0.7, 0.9, 0.6, 0.5])
    classes = torch.tensor([0, 1, 1, 0])
    # 1 beats 0, the same object by another name, and 2, a repeat in its class; 3 lies elsewhere.
    assert settle(iou, areas, scores, classes, ConceptsConfig()).tolist() == [1, 3]
    # Of two classes, masks that only overlap are two objects.
    assert settle(iou, areas, scores, torch.tensor([0, 1, 2, 0]), ConceptsConfig()).tolist() == [1, 2, 3]


def test_batches_of_names_and_few_places_change_what_they_should(backbone: PromptableBackbone) -> None:
    by_one, by_four = (label(backbone, names_per_batch=count, overlaps="keep") for count in (1, 4))
    iou = rle_ious([mask.rle for mask in by_one.masks], [mask.rle for mask in by_four.masks])
    assert iou.max(axis=0).min() > 0.99
    few = label(backbone, overlaps="keep", max_masks=5)
    assert [mask.score for mask in few.masks] == pytest.approx([mask.score for mask in by_four.masks[:5]], abs=1e-5)
    sure = label(backbone, score_thresh=0.99)
    assert sure.masks == ()
    assert sure.missed is not None
    assert sure.missed > 1


def test_a_model_without_concepts_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="nano knows no concepts; use --model sam3, or --method clip"):
        load_concepts(load_backbone("nano"), ConceptsConfig(("cat",)))
