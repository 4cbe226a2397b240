"""U-SAM: masks of the classes that a head knows."""

from __future__ import annotations

from dataclasses import replace

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.classes.config import ClassesConfig
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import config_for, segment_classes, without_repeats
from everymask.labelling.config import LabelConfig
from everymask.labelling.methods.method import Method
from everymask.records import ImageLabels


def _settings(config: LabelConfig, head: ClassHead | None) -> ClassesConfig:
    assert head is not None
    return config_for(head.spec, config.classes)


def _segment(
    backbone: PromptableBackbone, embedding: ImageEmbedding, config: LabelConfig, head: ClassHead | None
) -> ImageLabels:
    assert head is not None
    return segment_classes(backbone, embedding, head, config.classes)


METHOD = Method(
    _segment,
    needs_picture=lambda config, head: _settings(config, head).masks.describer == "crop",
    class_names=lambda config, head: None if head is None else head.spec.classes,
    every_mask=lambda config: replace(config, classes=replace(config.classes, score_thresh=0.0, class_score_thresh={})),
    settle=lambda masks, size_hw, config, head: without_repeats(masks, size_hw, _settings(config, head)),
)
