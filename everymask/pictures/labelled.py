"""The image behind a row of a label store, for pages that show it."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from everymask.errors import EverymaskError
from everymask.files.addresses import AddressPolicy
from everymask.files.storage import one_line
from everymask.images.decoding import ImageLimits, decode_image
from everymask.images.files import read_labelled_bytes
from everymask.labels.rows import ImageRow

logger = logging.getLogger(__name__)


def labelled_pixels(image: ImageRow, limits: ImageLimits, policy: AddressPolicy) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB of a labelled image; None, with a warning, if it is no longer what was labelled."""
    assert image.labels is not None
    try:
        data = read_labelled_bytes(image.uri, image.content_sha256, limits, policy, image.member)
        pixels = decode_image(data, limits)
        if pixels.shape[:2] != image.labels.size_hw:
            raise EverymaskError("it has another size than its labels")
    except (EverymaskError, OSError) as error:
        logger.warning("no picture of %r: %s", image.image_id, one_line(error))
        return None
    return pixels
