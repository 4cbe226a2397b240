"""Images in, labels out: the one code path of jobs and services."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import classify_masks, config_for, embed_masks, segment_classes
from everymask.classes.zero_shot import segment_names
from everymask.entities.amg import segment_amg
from everymask.entities.crops import segment_amg_on_crops
from everymask.entities.segmenter import segment_entities
from everymask.errors import ConfigurationError, InputError, ModelOutputError, UnforeseenError
from everymask.label_config import LabelConfig
from everymask.pictures.overlay import shrink
from everymask.records import ImageLabels
from everymask.region_sizes import limit_region_sizes
from everymask.tiles import label_in_tiles

T = TypeVar("T")

LabelFailure = InputError | ModelOutputError | UnforeseenError
"""What can be wrong with one image while others are fine.

Functions for one image raise it; functions for many return it in that image's place. A job writes it as the image's
row, a service turns it into a status code."""

PICTURE_SIDE_PX = 1024
"""Longest side of the picture that an embedding carries where crops of it are looked at."""


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
        return [_label_in_parts(backbone, image, config) for image in images]
    crops = config.method == "clip" or (
        head is not None and config_for(head.spec, config.classes).masks.describer == "crop"
    )
    return _label_each(backbone, images, lambda embedding: label_embedding(backbone, embedding, config, head), crops)


def _label_in_parts(
    backbone: PromptableBackbone, image: NDArray[np.uint8], config: LabelConfig
) -> ImageLabels | LabelFailure:
    """By crops or tiles, each of which is embedded."""

    def entities(part: NDArray[np.uint8]) -> ImageLabels:
        return segment_entities(backbone, backbone.embed([part])[0], config.entities)

    try:
        if config.method == "amg":
            labels = segment_amg_on_crops(backbone, image, config.amg)
        else:
            labels = label_in_tiles(image, config.tiles, entities)
        return limit_region_sizes(labels, config.min_region_area, config.max_region_area)
    except (InputError, ModelOutputError) as error:
        return error


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
    if config.method == "clip":
        labels = segment_names(backbone, embedding, config.clip)
    elif config.method == "amg":
        labels = segment_amg(backbone, embedding, config.amg)
    elif config.method == "classes":
        assert head is not None
        labels = segment_classes(backbone, embedding, head, config.classes)
    else:
        labels = segment_entities(backbone, embedding, config.entities)
    return limit_region_sizes(labels, config.min_region_area, config.max_region_area)


def _check_head(config: LabelConfig, head: ClassHead | None) -> None:
    if config.method == "classes" and head is None:
        raise ConfigurationError("method classes needs a class head; give one with --head FILE")
    if config.method != "classes" and head is not None:
        raise ConfigurationError(f"a class head is of no use to method {config.method}; leave it out or use classes")


def embed_images(
    backbone: PromptableBackbone, images: Sequence[NDArray[np.uint8]], keep_picture: bool = False
) -> list[ImageEmbedding | LabelFailure]:
    """One batch if every image can be embedded, else each on its own to find out which cannot.

    With `keep_picture` the embeddings carry the image at up to `PICTURE_SIDE_PX`, for describers that look at crops.
    """
    try:
        embeddings = backbone.embed(images)
        if not keep_picture:
            return [*embeddings]
        return [
            replace(embedding, picture=shrink(image, PICTURE_SIDE_PX))
            for embedding, image in zip(embeddings, images, strict=True)
        ]
    except (InputError, ModelOutputError) as error:
        if len(images) == 1:
            return [error]
    return [embedding for image in images for embedding in embed_images(backbone, [image], keep_picture)]
