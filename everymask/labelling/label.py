"""Images in, labels out: the one code path of jobs and services."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from everymask.backbone.embedding import embed_images
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import (
    classify_masks,
    config_for,
    embed_masks,
    segment_classes,
    without_repeats,
)
from everymask.classes.zero_shot import class_settings, segment_names
from everymask.entities.amg import segment_amg
from everymask.entities.crops import Crop, make_crops, segment_amg_on_crops
from everymask.entities.segmenter import segment_entities
from everymask.errors import ConfigurationError, InputError, LabelFailure, ModelOutputError
from everymask.labelling.config import LabelConfig
from everymask.labelling.region_sizes import limit_region_sizes
from everymask.labelling.tiles import Box, join_overlapping, label_in_tiles, make_tiles
from everymask.records import ImageLabels

T = TypeVar("T")


def label_images(
    backbone: PromptableBackbone,
    images: Sequence[NDArray[np.uint8]],
    config: LabelConfig,
    head: ClassHead | None = None,
) -> list[ImageLabels | LabelFailure]:
    """Embed RGB uint8 (H, W, 3) images as a batch, then label each.

    The answer for an image does not depend on its neighbours: where the model fails on one image, that image's place
    holds the error (returned, not raised), and the others are labelled as if it had not been there. A job writes the
    error as the image's row, a service turns it into a status code.

    Raises:
        ConfigurationError: the options do not fit together, or the head does not fit the backbone.
    """
    _check_head(config, head)
    if config.tiles > 1 or (config.method == "amg" and config.amg.crop_n_layers):
        return [_label_in_parts(backbone, image, config, head) for image in images]
    return _label_each(
        backbone,
        images,
        lambda embedding: label_embedding(backbone, embedding, config, head),
        _looks_at_crops(config, head),
    )


def _looks_at_crops(config: LabelConfig, head: ClassHead | None) -> bool:
    """Whether a describer looks at the picture beside its embedding."""
    return config.method == "clip" or (
        head is not None and config_for(head.spec, config.classes).masks.describer == "crop"
    )


def _label_in_parts(
    backbone: PromptableBackbone, image: NDArray[np.uint8], config: LabelConfig, head: ClassHead | None
) -> ImageLabels | LabelFailure:
    """By crops or tiles, each of which is embedded."""

    def segment_part(part: NDArray[np.uint8]) -> ImageLabels:
        (embedding,) = embed_images(backbone, [part], _looks_at_crops(config, head))
        if not isinstance(embedding, ImageEmbedding):
            raise embedding
        return _segment(backbone, embedding, config, head)

    def join_classes(whole: ImageLabels, tiles: Sequence[Box], found: Sequence[ImageLabels]) -> ImageLabels:
        settings = class_settings(config.clip) if head is None else config_for(head.spec, config.classes)
        found_by_all = without_repeats(join_overlapping(whole, tiles, found), whole.size_hw, settings)
        return replace(found_by_all, missed=whole.missed)

    try:
        if config.method == "amg":
            labels = segment_amg_on_crops(backbone, image, config.amg, _amg_crops(image, config))
        elif config.method == "entities":
            labels = label_in_tiles(image, config.tiles, segment_part)
        else:
            labels = label_in_tiles(image, config.tiles, segment_part, join_classes)
        return limit_region_sizes(labels, config.min_region_area, config.max_region_area)
    except (InputError, ModelOutputError) as error:
        return error


def _amg_crops(image: NDArray[np.uint8], config: LabelConfig) -> list[Crop] | None:
    """The whole image and its tiles; None without tiles."""
    size_hw = (image.shape[0], image.shape[1])
    if config.tiles == 1:
        return None
    return [*make_crops(size_hw, 0, 0.0), *(Crop(1, tile) for tile in make_tiles(size_hw, config.tiles))]


def label_images_keeping_masks(
    backbone: PromptableBackbone, images: Sequence[NDArray[np.uint8]], config: LabelConfig, head: ClassHead
) -> list[tuple[ImageLabels, MaskEmbeddings] | LabelFailure]:
    """`label_images` for method classes, with the embeddings of all masks beside the labels.

    Another head labels the same images from these embeddings with `classify_masks`, without the backbone.

    Raises:
        ConfigurationError: the head does not fit the backbone.
    """

    def label(embedding: ImageEmbedding) -> tuple[ImageLabels, MaskEmbeddings]:
        masks = embed_masks(backbone, embedding, classes)
        labels = classify_masks(masks, head, classes)
        return limit_region_sizes(labels, config.min_region_area, config.max_region_area), masks

    classes = config_for(head.spec, config.classes)
    return _label_each(backbone, images, label, classes.masks.describer == "crop")


def _label_each(
    backbone: PromptableBackbone,
    images: Sequence[NDArray[np.uint8]],
    label: Callable[[ImageEmbedding], T],
    keep_picture: bool,
) -> list[T | LabelFailure]:
    results: list[T | LabelFailure] = []
    for embedding in embed_images(backbone, images, keep_picture):
        if not isinstance(embedding, ImageEmbedding):
            results.append(embedding)
            continue
        try:
            results.append(label(embedding))
        except (InputError, ModelOutputError) as error:
            results.append(error)
    return results


def label_embedding(
    backbone: PromptableBackbone, embedding: ImageEmbedding, config: LabelConfig, head: ClassHead | None = None
) -> ImageLabels:
    """Label one embedded image.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
        ConfigurationError: the options do not fit together, or the head does not fit the backbone.
    """
    _check_head(config, head)
    labels = _segment(backbone, embedding, config, head)
    return limit_region_sizes(labels, config.min_region_area, config.max_region_area)


def _segment(
    backbone: PromptableBackbone, embedding: ImageEmbedding, config: LabelConfig, head: ClassHead | None
) -> ImageLabels:
    """Masks of any size."""
    if config.method == "clip":
        return segment_names(backbone, embedding, config.clip)
    if config.method == "amg":
        return segment_amg(backbone, embedding, config.amg)
    if config.method == "classes":
        assert head is not None
        return segment_classes(backbone, embedding, head, config.classes)
    return segment_entities(backbone, embedding, config.entities)


def _check_head(config: LabelConfig, head: ClassHead | None) -> None:
    if config.method == "classes" and head is None:
        raise ConfigurationError("method classes needs a class head; give one with --head FILE")
    if config.method != "classes" and head is not None:
        raise ConfigurationError(f"a class head is of no use to method {config.method}; leave it out or use classes")
