"""Images in, labels out: the one code path of jobs and services."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from everymask.backbone.embedding import embed_images
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import classify_masks, config_for, describe_masks
from everymask.errors import InputError, LabelFailure, ModelOutputError
from everymask.labelling.config import LabelConfig
from everymask.labelling.methods.method import Method
from everymask.labelling.methods.table import check_given, find_method
from everymask.labelling.region_sizes import limit_region_sizes
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
    method = checked_method(config, head)
    if config.tiles > 1 or method.has_crops(config):
        return [_label_in_parts(method, backbone, image, config, head) for image in images]
    return _label_each(
        backbone,
        images,
        lambda embedding: finish(method.segment(backbone, embedding, config, head), config),
        method.needs_picture(config, head),
    )


def label_embedding(
    backbone: PromptableBackbone, embedding: ImageEmbedding, config: LabelConfig, head: ClassHead | None = None
) -> ImageLabels:
    """Label one embedded image.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
        ConfigurationError: the options do not fit together, or the head does not fit the backbone.
    """
    return finish(checked_method(config, head).segment(backbone, embedding, config, head), config)


def label_images_keeping_masks(
    backbone: PromptableBackbone, images: Sequence[NDArray[np.uint8]], config: LabelConfig, head: ClassHead
) -> list[tuple[ImageLabels, MaskEmbeddings] | LabelFailure]:
    """`label_images` for method classes, with the embeddings of all masks beside the labels.

    Another head labels the same images from these embeddings with `label_masks`, without the backbone.

    Raises:
        ConfigurationError: the head does not fit the backbone.
    """

    def label(embedding: ImageEmbedding) -> tuple[ImageLabels, MaskEmbeddings]:
        masks = describe_masks(backbone, embedding, classes)
        return finish(classify_masks(masks, head, classes), config), masks

    classes = config_for(head.spec, config.classes)
    return _label_each(backbone, images, label, classes.masks.describer == "crop")


def label_masks(masks: MaskEmbeddings, config: LabelConfig, head: ClassHead) -> ImageLabels:
    """Labels of one image from its mask embeddings, by method classes.

    Raises:
        HeadMismatchError: the head was trained on another backbone or other weights.
        ConfigurationError: a threshold names a class that the head does not know.
    """
    return finish(classify_masks(masks, head, config.classes), config)


def finish(labels: ImageLabels, config: LabelConfig) -> ImageLabels:
    """The last step of every method: masks of the sizes that are asked for."""
    return limit_region_sizes(labels, config.min_region_area, config.max_region_area)


def checked_method(config: LabelConfig, head: ClassHead | None) -> Method:
    """The method of a configuration.

    Raises:
        ConfigurationError: it is unknown, a head is missing or of no use, or names are.
    """
    check_given(config.method, head=head is not None, names=bool(config.clip.names))
    return find_method(config.method).implementation()


def _label_in_parts(
    method: Method,
    backbone: PromptableBackbone,
    image: NDArray[np.uint8],
    config: LabelConfig,
    head: ClassHead | None,
) -> ImageLabels | LabelFailure:
    """By crops or tiles, each of which is embedded."""

    def segment_tile(tile: NDArray[np.uint8]) -> ImageLabels:
        (embedding,) = embed_images(backbone, [tile], method.needs_picture(config, head))
        if not isinstance(embedding, ImageEmbedding):
            raise embedding
        return method.segment(backbone, embedding, config, head)

    try:
        if method.segment_in_parts is not None:
            return finish(method.segment_in_parts(backbone, image, config), config)
        return finish(method.segment_tiles(image, config, head, segment_tile), config)
    except (InputError, ModelOutputError) as error:
        return error


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
