"""Embeds images in batches, and one by one if a batch fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from everymask.backbone.protocol import ImageEmbedding, PreparedImage, PreparesAhead, PromptableBackbone
from everymask.errors import InputError, LabelFailure, ModelOutputError
from everymask.images.resizing import shrink

PICTURE_SIDE_PX = 1024
"""Longest side of the picture kept with an embedding for looking at crops."""


@dataclass(frozen=True, slots=True)
class ReadyImage:
    """An image after the host's share of the work, and the picture to keep with it."""

    image: PreparedImage | NDArray[np.uint8]
    picture: NDArray[np.uint8] | None


def make_ready(backbone: PromptableBackbone, image: NDArray[np.uint8], keep_picture: bool = False) -> ReadyImage:
    """Do the work that needs no device. With `keep_picture` the embedding will carry the image at up to
    `PICTURE_SIDE_PX`, for describers that look at crops."""
    prepared = backbone.prepare(image) if isinstance(backbone, PreparesAhead) else image
    return ReadyImage(prepared, shrink(image, PICTURE_SIDE_PX) if keep_picture else None)


def embed_ready(backbone: PromptableBackbone, images: Sequence[ReadyImage]) -> list[ImageEmbedding | LabelFailure]:
    """Embed as one batch; if that fails, each image alone, to find those that cannot be embedded."""
    try:
        return [
            embedding if ready.picture is None else replace(embedding, picture=ready.picture)
            for embedding, ready in zip(_embed(backbone, images), images, strict=True)
        ]
    except (InputError, ModelOutputError) as error:
        if len(images) == 1:
            return [error]
    return [embedding for image in images for embedding in embed_ready(backbone, [image])]


def _embed(backbone: PromptableBackbone, images: Sequence[ReadyImage]) -> list[ImageEmbedding]:
    prepared = [ready.image for ready in images if isinstance(ready.image, PreparedImage)]
    if prepared:
        assert isinstance(backbone, PreparesAhead)
        return backbone.embed_prepared(prepared)
    return backbone.embed([ready.image for ready in images if isinstance(ready.image, np.ndarray)])


def embed_images(
    backbone: PromptableBackbone, images: Sequence[NDArray[np.uint8]], keep_picture: bool = False
) -> list[ImageEmbedding | LabelFailure]:
    """`embed_ready` after `make_ready`."""
    return embed_ready(backbone, [make_ready(backbone, image, keep_picture) for image in images])
