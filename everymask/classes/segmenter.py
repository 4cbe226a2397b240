"""U-SAM inference (section 3.6): mask embeddings and a class head → labelled masks of the user's classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.head import ClassHead, HeadSpec, check_backbone
from everymask.classes.proposals import describe_features, full_size_masks, propose_masks
from everymask.classes.uncertainty import normalised_entropy
from everymask.errors import ConfigurationError
from everymask.masks.labelled import labelled_masks
from everymask.masks.nms import mask_nms
from everymask.masks.rle import rle_areas, rle_coverage, rle_ious
from everymask.records import ImageLabels, LabelledMask, Rle


def describe_masks(backbone: PromptableBackbone, embedding: ImageEmbedding, config: ClassesConfig) -> MaskEmbeddings:
    """Every mask of an image with its embedding: the input of `classify_masks`, for any head.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    masks = propose_masks(backbone, embedding, config.masks)
    return full_size_masks(backbone, embedding, masks, describe_features(backbone, embedding, masks, config.masks))


def config_for(spec: HeadSpec, config: ClassesConfig) -> ClassesConfig:
    """The configuration with the describer that a head needs."""
    if not spec.reads_crops or config.masks.describer == "crop":
        return config
    return replace(config, masks=replace(config.masks, describer="crop"))


def masks_asked_for(spec: HeadSpec, made_with: MaskConfig) -> MaskConfig:
    """The inverse of `config_for`: the settings without those that a head itself needs."""
    return replace(made_with, describer="none") if spec.reads_crops else made_with


def classify_masks(embeddings: MaskEmbeddings, head: ClassHead, config: ClassesConfig) -> ImageLabels:
    """Name the masks, keep the confident ones, and drop those that repeat one of their class.

    Raises:
        HeadMismatchError: the head was trained on another backbone or other weights.
        ConfigurationError: a threshold names a class that the head does not know.
    """
    check_backbone(head.spec, embeddings.backbone, embeddings.weights_sha256)
    thresholds = class_thresholds(head.spec.classes, config, head.spec.score_thresh)
    probabilities = head.probabilities(embeddings.features)
    chosen = confident_masks(probabilities, thresholds)
    labels = label_masks(embeddings[chosen.numpy()], probabilities[chosen], head.spec.classes, config)
    return replace(labels, missed=missed_masks(probabilities, torch.tensor(embeddings.predicted_iou), chosen))


def segment_classes(
    backbone: PromptableBackbone, embedding: ImageEmbedding, head: ClassHead, config: ClassesConfig
) -> ImageLabels:
    """`classify_masks(describe_masks(…))`, with only the confident masks brought to original resolution.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
        HeadMismatchError: the head was trained on another backbone or other weights.
        ConfigurationError: a threshold names a class that the head does not know.
    """
    config = config_for(head.spec, config)
    check_backbone(head.spec, backbone.name, backbone.weights_sha256)
    thresholds = class_thresholds(head.spec.classes, config, head.spec.score_thresh)
    masks = propose_masks(backbone, embedding, config.masks)
    features = describe_features(backbone, embedding, masks, config.masks)
    probabilities = head.probabilities(features)
    chosen = confident_masks(probabilities, thresholds)
    embeddings = full_size_masks(backbone, embedding, masks[chosen.to(masks.logits.device)], features[chosen.numpy()])
    labels = label_masks(embeddings, probabilities[chosen], head.spec.classes, config)
    return replace(labels, missed=missed_masks(probabilities, masks.predicted_iou, chosen))


def class_thresholds(classes: tuple[str, ...], config: ClassesConfig, recommended: float) -> torch.Tensor:
    """(C,) float32 least probability of each class; the recommended one where the configuration has none.

    Raises:
        ConfigurationError: a threshold names a class that is not among `classes`.
    """
    unknown = sorted(set(config.class_score_thresh) - set(classes))
    if unknown:
        raise ConfigurationError(
            f"a threshold is given for class {', '.join(unknown)}, but the head knows {', '.join(classes)}"
        )
    least = recommended if config.score_thresh is None else config.score_thresh
    return torch.tensor([config.class_score_thresh.get(name, least) for name in classes])


def confident_masks(probabilities: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """(K,) int64 indices of masks whose likeliest class passes its threshold, however probable background is."""
    best, index = probabilities[:, :-1].max(dim=-1)
    return (best >= thresholds[index]).nonzero().flatten()


def missed_masks(probabilities: torch.Tensor, predicted_iou: torch.Tensor, chosen: torch.Tensor) -> float:
    """Estimate the number of left-out masks of the classes, for the review queue.

    Each mask that was not chosen contributes its top class probability times its predicted IoU (our choice: together
    with the masks' doubts, this sum found the most of the worst training images, and it needs no mask's pixels).

    Args:
        probabilities: (K, C + 1) float32, background last.
        predicted_iou: (K,) float.
        chosen: int64 indices of the masks that passed their thresholds.
    """
    left_out = torch.ones(len(probabilities), dtype=torch.bool)
    left_out[chosen] = False
    return float(object_evidence(probabilities, predicted_iou)[left_out].sum())


def object_evidence(probabilities: torch.Tensor, predicted_iou: torch.Tensor) -> torch.Tensor:
    """(K,) float64 in [0, 1]: each mask's top class probability times its predicted IoU."""
    return probabilities[:, :-1].max(dim=1).values.double() * predicted_iou.cpu().float().double().clamp(0, 1)


def label_masks(
    embeddings: MaskEmbeddings, probabilities: torch.Tensor, classes: tuple[str, ...], config: ClassesConfig
) -> ImageLabels:
    """Labelled masks of K confident masks with (K, C + 1) probabilities, after NMS within each class."""
    likelihood, class_ids = probabilities[:, :-1].max(dim=-1)
    scores = likelihood
    if config.score == "probability_times_iou":
        scores = likelihood * torch.tensor(embeddings.predicted_iou).clamp(0, 1)
    uncertainty = normalised_entropy(probabilities)
    # A mask thinner than a pixel may have none at original resolution, and is left out here.
    masks = labelled_masks(
        embeddings.rles,
        predicted_iou=embeddings.predicted_iou.tolist(),
        stability_score=embeddings.stability_score.tolist(),
        point_coords=embeddings.point_coords.tolist(),
        score=scores.tolist(),
        class_id=class_ids.tolist(),
        class_names=classes,
        uncertainty=uncertainty.tolist(),
    )
    return without_repeats(masks, embeddings.size_hw, config)


def without_repeats(masks: Sequence[LabelledMask], size_hw: tuple[int, int], config: ClassesConfig) -> ImageLabels:
    """Masks of one image after NMS within each class."""
    height, width = size_hw
    class_ids = torch.tensor([-1 if mask.class_id is None else mask.class_id for mask in masks])
    areas = torch.tensor([mask.area for mask in masks], dtype=torch.float32)
    rank = torch.tensor([mask.score for mask in masks]) * (areas / (height * width)) ** config.area_exponent
    rles = tuple(mask.rle for mask in masks)
    kept = [
        i
        for class_id in torch.unique(class_ids)
        for i in _suppress((class_ids == class_id).nonzero().flatten(), rles, rank, config)
    ]
    kept.sort(key=lambda i: (-masks[i].score, i))
    return ImageLabels(size_hw, tuple(masks[i] for i in kept), rle_coverage([rles[i] for i in kept], size_hw))


def _suppress(index: torch.Tensor, rles: tuple[Rle, ...], rank: torch.Tensor, config: ClassesConfig) -> list[int]:
    """The masks at (K,) int64 `index`, all of one class, without those that repeat a higher-ranked one."""
    chosen = [rles[i] for i in index.tolist()]
    iou = torch.from_numpy(rle_ious(chosen, chosen))
    areas = torch.from_numpy(rle_areas(chosen)).double()
    repeats = repeating(iou, areas, config.nms_iou_thresh, config.nms_containment_thresh)
    kept: list[int] = index[mask_nms(repeats.float(), rank[index], 0.5)].tolist()
    return kept


def repeating(iou: torch.Tensor, areas: torch.Tensor, iou_thresh: float, containment_thresh: float) -> torch.Tensor:
    """Which masks repeat each other: (K, K) bool, from their (K, K) IoU and (K,) areas."""
    # inter / union = iou and |a| + |b| = inter + union give the intersection without decoding a mask.
    inter = iou / (1 + iou) * (areas[:, None] + areas[None, :])
    containment = inter / torch.minimum(areas[:, None], areas[None, :]).clamp_min(1)
    # Clamped: rounding must not lift a share above 1, the threshold that turns containment off.
    return (iou > iou_thresh) | (containment.clamp_max(1) > containment_thresh)
