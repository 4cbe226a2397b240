"""Images in, labels out: the code path shared by jobs and service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everymask.backbone.embedding import ReadyImage, embed_images, embed_ready, make_ready
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import classify_masks, config_for, describe_masks
from everymask.errors import InputError, LabelFailure, ModelOutputError
from everymask.labelling.config import LabelConfig
from everymask.labelling.methods.method import Method
from everymask.labelling.methods.table import check_given, find_method
from everymask.labelling.names import has_names
from everymask.labelling.region_sizes import limit_region_sizes
from everymask.records import ImageLabels

Ready = ReadyImage | NDArray[np.uint8]
"""An image prepared for embedding, or one to be embedded part by part while it is labelled."""
Embedded = ImageEmbedding | NDArray[np.uint8] | LabelFailure
"""An embedding, an image to be embedded part by part, or the reason why it cannot be embedded."""


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image's labels or why there are none, and its mask embeddings if kept."""

    labels: ImageLabels | LabelFailure
    masks: MaskEmbeddings | None = None


def label_images(
    backbone: PromptableBackbone,
    images: Sequence[NDArray[np.uint8]],
    config: LabelConfig,
    head: ClassHead | None = None,
) -> list[ImageLabels | LabelFailure]:
    """Embed RGB uint8 (H, W, 3) images as a batch, then label each.

    An image's answer does not depend on the others: if the model fails on one, its place holds the error (returned, not
    raised). A job writes the error as the image's row; a service turns it into a status code.

    Raises:
        ConfigurationError: options contradict each other, or the head does not fit the backbone.
    """
    labeller = ImageLabeller(config, head)
    ready = [labeller.make_ready(backbone, image) for image in images]
    return [labeller.label(backbone, embedded).labels for embedded in labeller.embed(backbone, ready)]


class ImageLabeller:
    """The three steps from images to labels. Errors of the model on one image are returned as its answer."""

    def __init__(self, config: LabelConfig, head: ClassHead | None = None, *, keep_masks: bool = False) -> None:
        """
        Args:
            head: the class head of method classes.
            keep_masks: with a head, keep all masks' embeddings: another head can then label the same images with
                `label_masks`, without the backbone.

        Raises:
            ConfigurationError: options contradict each other.
        """
        self._config = config
        self._head = head
        self._keep_masks = keep_masks and head is not None
        self._method = checked_method(config, head)
        self._in_parts = config.tiles > 1 or self._method.has_crops(config)

    def make_ready(self, backbone: PromptableBackbone, image: NDArray[np.uint8]) -> Ready:
        """The host's work on an RGB uint8 (H, W, 3) image, ahead of the device's."""
        if self._in_parts:
            return image
        return make_ready(backbone, image, self._method.needs_picture(self._config, self._head))

    def embed(self, backbone: PromptableBackbone, images: Sequence[Ready]) -> list[Embedded]:
        """Embed images as a batch.

        Raises:
            ConfigurationError, CheckpointError: what the method needs beside the backbone cannot be loaded.
        """
        if self._method.load is not None:  # an embedding must hold what the method reads
            self._method.load(self._config, backbone)
        if self._in_parts:
            return [image for image in images if isinstance(image, np.ndarray)]
        return [*embed_ready(backbone, [image for image in images if isinstance(image, ReadyImage)])]

    def label(self, backbone: PromptableBackbone, embedded: Embedded) -> ImageResult:
        """Label one image from `embed`'s answer.

        Raises:
            ConfigurationError: the head does not fit the backbone.
        """
        try:
            if isinstance(embedded, np.ndarray):
                return ImageResult(self._label_parts(backbone, embedded))
            if not isinstance(embedded, ImageEmbedding):
                return ImageResult(embedded)
            if not self._keep_masks:
                labels = self._method.segment(backbone, embedded, self._config, self._head)
                return ImageResult(finish(labels, self._config))
            assert self._head is not None
            classes = config_for(self._head.spec, self._config.classes)
            masks = describe_masks(backbone, embedded, classes)
            return ImageResult(finish(classify_masks(masks, self._head, classes), self._config), masks)
        except (InputError, ModelOutputError) as error:
            return ImageResult(error)

    def _label_parts(self, backbone: PromptableBackbone, image: NDArray[np.uint8]) -> ImageLabels:
        """Label by crops or tiles, embedding each."""
        method, config = self._method, self._config

        def segment_tile(tile: NDArray[np.uint8]) -> ImageLabels:
            (embedding,) = embed_images(backbone, [tile], method.needs_picture(config, self._head))
            if not isinstance(embedding, ImageEmbedding):
                raise embedding
            return method.segment(backbone, embedding, config, self._head)

        if method.segment_in_parts is not None:
            return finish(method.segment_in_parts(backbone, image, config), config)
        return finish(method.segment_tiles(image, config, self._head, segment_tile), config)


def label_embedding(
    backbone: PromptableBackbone, embedding: ImageEmbedding, config: LabelConfig, head: ClassHead | None = None
) -> ImageLabels:
    """Label one embedded image.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
        ConfigurationError: options contradict each other, or the head does not fit the backbone.
    """
    return finish(checked_method(config, head).segment(backbone, embedding, config, head), config)


def label_masks(masks: MaskEmbeddings, config: LabelConfig, head: ClassHead) -> ImageLabels:
    """Label one image from its mask embeddings by method classes.

    Raises:
        HeadMismatchError: the head was trained on another backbone or other weights.
        ConfigurationError: a threshold names a class unknown to the head.
    """
    return finish(classify_masks(masks, head, config.classes), config)


def finish(labels: ImageLabels, config: LabelConfig) -> ImageLabels:
    """The last step of every method: keep masks of the requested sizes."""
    return limit_region_sizes(labels, config.min_region_area, config.max_region_area)


def checked_method(config: LabelConfig, head: ClassHead | None) -> Method:
    """A configuration's method.

    Raises:
        ConfigurationError: it is unknown, or a head or names are missing or not used by it.
    """
    check_given(config.method, head=head is not None, names=has_names(config))
    return find_method(config.method).implementation()
