"""SAM 3 asked by name (Carion et al. 2025, "promptable concept segmentation"): every object that a phrase describes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch

from everymask.backbone.concepts import EXAMPLES_ALONE, ConceptMasks, FindsConcepts
from everymask.backbone.full_resolution import masks_at_a_time
from everymask.backbone.protocol import Canvas, ImageEmbedding, PromptableBackbone
from everymask.classes.config import ConceptsConfig
from everymask.classes.examples import ALIKE, ExamplePrompt
from everymask.classes.segmenter import repeating
from everymask.classes.uncertainty import normalised_entropy
from everymask.errors import ConfigurationError
from everymask.masks.labelled import labelled_masks
from everymask.masks.nms import descending_order, mask_nms
from everymask.masks.overlap import mask_areas, mask_iou
from everymask.masks.rle import encode_masks, rle_areas, rle_coverage, rle_ious
from everymask.masks.stability import stability_scores
from everymask.records import ImageLabels, LabelledMask

_NO_CLASS = -1
"""The class id of masks that a negative phrase has found."""


@dataclass(frozen=True)
class _Found:
    """K masks of an image: (K, P) logits, (K,) scores and (K,) int64 classes."""

    logits: torch.Tensor
    scores: torch.Tensor
    class_ids: torch.Tensor

    def __getitem__(self, index: torch.Tensor) -> _Found:
        return _Found(self.logits[index], self.scores[index], self.class_ids[index])

    @classmethod
    def together(cls, parts: Sequence[_Found]) -> _Found:
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("logits", "scores", "class_ids")))


def load_concepts(backbone: PromptableBackbone, config: ConceptsConfig) -> FindsConcepts:
    """The backbone, ready to answer the names of a configuration.

    Raises:
        ConfigurationError: it answers no names, or cannot read one of these.
        CheckpointError: its weights or its vocabulary are missing.
    """
    if not hasattr(backbone, "find_concepts"):  # an isinstance of a protocol does not see through `TakesTurns`
        raise ConfigurationError(
            f"model {backbone.name} knows no concepts; use --model sam3, or --method clip, which compares names with "
            "masks of any model"
        )
    finder = cast(FindsConcepts, backbone)
    finder.load_concepts()
    finder.check_names((*config.names, *config.negatives))
    return finder


@torch.inference_mode()
def segment_concepts(backbone: PromptableBackbone, embedding: ImageEmbedding, config: ConceptsConfig) -> ImageLabels:
    """Masks of every object that a name describes.

    Overlaps are settled on the model's own grid; only what is kept is brought to original resolution.

    Args:
        embedding: made by a backbone that `load_concepts` has readied.
        config: the names, and what becomes of overlaps.

    Raises:
        ConfigurationError: the backbone answers no names, or cannot read one.
        ModelOutputError: it answered with NaN or infinity.
    """
    finder = load_concepts(backbone, config)
    classes = config.class_names
    phrases = (*config.names, *config.negatives)
    class_of = [classes.index(config.classes.get(name, name)) for name in config.names]
    class_of += [_NO_CLASS] * len(config.negatives)
    view = finder.view_for_concepts(embedding)
    presence, missed = [0.0] * len(classes), 0.0
    found: _Found | None = None
    for start in range(0, len(phrases), config.names_per_batch):
        chunk = slice(start, start + config.names_per_batch)
        answers = finder.find_concepts(view, phrases[chunk], config.score_thresh)
        for answer, class_id in zip(answers, class_of[chunk], strict=True):
            if class_id != _NO_CLASS:
                presence[class_id] = max(presence[class_id], answer.presence)
                missed += answer.left_out
            own = _of_one_name(answer, class_id)
            found = own if found is None else _best(_Found.together([found, own]), config.max_masks)
    assert found is not None
    kept = _settled(found, embedding.canvas, config)
    labels = _full_size(backbone, embedding, kept, classes)
    return replace(labels, missed=missed, presence=tuple(presence))


@torch.inference_mode()
def segment_alike(
    backbone: PromptableBackbone, embedding: ImageEmbedding, prompt: ExamplePrompt, config: ConceptsConfig
) -> ImageLabels:
    """Masks of every object of an image that is like its examples: boxes in the same image.

    Args:
        embedding: made by a backbone that `load_concepts` has readied.
        config: least score and treatment of overlaps; its one name, if any, says what the examples are.

    Raises:
        ConfigurationError: the backbone finds no concepts, cannot read the name, or there are several.
        InputError: a box reaches outside the image.
        ModelOutputError: it answered with NaN or infinity.
    """
    if len(config.names) > 1 or config.negatives:
        given = ", ".join((*config.names, *(f"-{name}" for name in config.negatives)))
        raise ConfigurationError(f"boxes are examples of one name, or of none; got {given}")
    prompt.check_inside(embedding.canvas.original_size_hw)
    finder = load_concepts(backbone, config)
    answer = finder.find_alike(
        finder.view_for_concepts(embedding),
        torch.tensor(prompt.boxes_xyxy, dtype=torch.float64),
        torch.tensor(prompt.shown),
        config.names[0] if config.names else EXAMPLES_ALONE,
        config.score_thresh,
    )
    found = _best(_of_one_name(answer, 0), config.max_masks)
    labels = _full_size(backbone, embedding, _settled(found, embedding.canvas, config), config.class_names or ALIKE)
    return replace(labels, missed=answer.left_out, presence=(answer.presence,))


def settle_concepts(masks: Sequence[LabelledMask], size_hw: tuple[int, int], config: ConceptsConfig) -> ImageLabels:
    """Masks of one image at original resolution, with overlaps settled as `config.overlaps` says."""
    if config.overlaps == "settle" and masks:
        rles = [mask.rle for mask in masks]
        kept = settle(
            torch.from_numpy(rle_ious(rles, rles)),
            torch.from_numpy(rle_areas(rles)).double(),
            torch.tensor([mask.score for mask in masks], dtype=torch.float64),
            torch.tensor([_NO_CLASS if mask.class_id is None else mask.class_id for mask in masks]),
            config,
        )
        masks = [masks[i] for i in kept.tolist()]
    ordered = sorted(masks, key=lambda mask: -mask.score)
    return ImageLabels(size_hw, tuple(ordered), rle_coverage([mask.rle for mask in ordered], size_hw))


def settle(
    iou: torch.Tensor, areas: torch.Tensor, scores: torch.Tensor, class_ids: torch.Tensor, config: ConceptsConfig
) -> torch.Tensor:
    """Settle K masks that repeat each other: best scores first, within a class and between classes.

    Args:
        iou: (K, K).
        areas: (K,).
        scores: (K,).
        class_ids: (K,) int64.

    Returns:
        int64 indices of the masks that stay, in descending score.
    """
    same_class = class_ids[:, None] == class_ids[None, :]
    within = repeating(iou, areas, config.nms_iou_thresh, config.nms_containment_thresh)
    drops = torch.where(same_class, within, iou > config.same_iou_thresh)
    return mask_nms(drops.float(), scores, 0.5)


def _of_one_name(answer: ConceptMasks, class_id: int) -> _Found:
    """A name's non-empty masks."""
    some = (answer.logits > 0).any(dim=1)
    scores = answer.scores[some]
    return _Found(answer.logits[some], scores, torch.full_like(scores, class_id, dtype=torch.int64))


def _best(found: _Found, most: int) -> _Found:
    return found if len(found.scores) <= most else found[descending_order(found.scores)[:most]]


def _settled(found: _Found, canvas: Canvas, config: ConceptsConfig) -> _Found:
    """The masks that are labelled, best first."""
    if config.overlaps == "settle":
        masks = found.logits > 0
        iou = mask_iou(masks, masks, canvas.cell_area).float()
        found = found[settle(iou, mask_areas(masks, canvas.cell_area), found.scores, found.class_ids, config)]
    else:
        found = found[descending_order(found.scores)]
    return found[found.class_ids != _NO_CLASS]


def _full_size(
    backbone: PromptableBackbone, embedding: ImageEmbedding, found: _Found, classes: tuple[str, ...]
) -> ImageLabels:
    canvas = embedding.canvas
    at_a_time = masks_at_a_time(canvas.original_size_hw, found.logits.device)
    rles = [
        rle
        for chunk in torch.split(found.logits, at_a_time)
        for rle in encode_masks(backbone.full_resolution_logits(embedding, chunk) > 0)
    ]
    doubt = normalised_entropy(torch.stack([found.scores, 1 - found.scores], dim=-1))
    masks = labelled_masks(
        rles,
        predicted_iou=[None] * len(rles),
        stability_score=stability_scores(found.logits, canvas.cell_area, 1.0).tolist(),
        point_coords=_surest_points(canvas, found.logits),
        score=found.scores.tolist(),
        class_id=found.class_ids.tolist(),
        class_names=classes,
        uncertainty=doubt.tolist(),
    )
    return ImageLabels(canvas.original_size_hw, tuple(masks), rle_coverage(rles, canvas.original_size_hw))


def _surest_points(canvas: Canvas, logits: torch.Tensor) -> list[list[float]]:
    """(x, y) in original pixels of the cell with the highest logit of each of (K, P) masks."""
    flat = canvas.to_pixels(logits).flatten(1).argmax(dim=1)
    width = canvas.size_hw[1]
    middle = torch.stack([flat % width, flat // width], dim=1).float() + 0.5
    points: list[list[float]] = canvas.to_original(middle).tolist()
    return points
