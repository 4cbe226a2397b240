"""Images into embeddings: a batch where it can be, one by one where an image of it fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.errors import InputError, LabelFailure, ModelOutputError
from everymask.images.resizing import shrink

PICTURE_SIDE_PX = 1024
"""Longest side of the picture that an embedding carries where crops of it are looked at."""


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
