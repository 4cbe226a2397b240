"""SAM + CLIP (U-SAM, section 4, table 3): masks of SAM's grid, named by CLIP."""

from __future__ import annotations

from dataclasses import replace

import torch

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.classes.config import ClassesConfig, ClipConfig
from everymask.classes.describers.clip import ClipDescriber, clip_describer
from everymask.classes.features import MaskFeatures
from everymask.classes.phrases import BACKGROUND
from everymask.classes.proposals import full_size_masks, propose_masks
from everymask.classes.recipes import PAPER_CLASSES
from everymask.classes.segmenter import class_thresholds, confident_masks, label_masks, missed_masks
from everymask.records import ImageLabels


def load_clip(config: ClipConfig, device: torch.device) -> ClipDescriber:
    """The CLIP model of this process for a configuration. Raises as `ClipDescriber`."""
    return clip_describer(config.model, config.names, config.prompt, device)


def labelled_names(config: ClipConfig) -> tuple[str, ...]:
    """The names that become classes, in order; class_id is the index."""
    return tuple(name for name in config.names if name != BACKGROUND)


def class_settings(config: ClipConfig) -> ClassesConfig:
    """Thresholds and suppression of named masks."""
    return ClassesConfig(**{**PAPER_CLASSES, "nms_iou_thresh": config.nms_iou_thresh})


def segment_names(backbone: PromptableBackbone, embedding: ImageEmbedding, config: ClipConfig) -> ImageLabels:
    """Masks that look like one of the names, after a threshold and suppression within each name.

    Args:
        embedding: with its picture (`embed_images(..., keep_picture=True)`).
        config: the names, and how they are compared.

    Raises:
        ConfigurationError: the CLIP model cannot be loaded, or fewer than two names.
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    if embedding.picture is None:
        raise ValueError("CLIP looks at the embedding's picture; embed with keep_picture=True")
    clip = load_clip(config, backbone.device)
    masks = propose_masks(backbone, embedding, config.masks)
    picture = torch.tensor(embedding.picture)
    named = clip.probabilities(picture, embedding.canvas, masks.masks, config)
    classes = labelled_names(config)
    order = [config.names.index(name) for name in classes]
    others = [index for index, name in enumerate(config.names) if name == BACKGROUND]
    probabilities = torch.cat([named[:, order], named[:, others].sum(dim=1, keepdim=True)], dim=1)
    settings = class_settings(config)
    chosen = confident_masks(probabilities, class_thresholds(classes, settings, config.score_thresh))
    kept = masks[chosen.to(masks.logits.device)]
    pooled = torch.zeros(len(kept), 0)
    features = MaskFeatures(*(part.numpy().astype("float16") for part in (pooled, pooled, pooled)))
    labels = label_masks(full_size_masks(backbone, embedding, kept, features), probabilities[chosen], classes, settings)
    return replace(labels, missed=missed_masks(probabilities, masks.predicted_iou, chosen))
