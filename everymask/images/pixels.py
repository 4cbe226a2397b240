"""An image in any form as RGB pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import InputError
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import DEFAULT_LIMITS, ImageLimits, decode_image, rgb_of_picture
from everymask.images.files import read_bytes

ImageLike = str | Path | bytes | bytearray | memoryview | Image.Image | NDArray[np.generic]
"""What `rgb_pixels` accepts: a path or address, an encoded file's bytes, a Pillow picture, or an array."""

_CHANNELS = (1, 2, 3, 4)


def rgb_pixels(image: ImageLike, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an image in any form.

    Arrays are (H, W) grey, or (H, W, C) with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels; uint8, bool, or
    floating-point in [0, 1]. Transparency is flattened on white, as in files.

    Raises:
        InputError: the image cannot be read or decoded, or the array is none of the above.
        ImageTooLargeError: more bytes or pixels than `limits`.
    """
    if isinstance(image, str | Path):
        return decode_image(_read(str(image), limits), limits)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), limits)
    if isinstance(image, Image.Image):
        limits.check_pixels(*image.size)
        return rgb_of_picture(image)
    if isinstance(image, np.ndarray):
        return _from_array(image, limits)
    raise InputError(
        f"an image cannot be a {type(image).__name__}; give a path, an address, bytes, a Pillow picture or an array"
    )


def _read(uri: str, limits: ImageLimits) -> bytes:
    try:
        return read_bytes(uri, limits, AddressPolicy(trusted=(uri,)))
    except InputError as error:
        raise type(error)(f"{uri} cannot be read ({error}); check the path") from error
    except OSError as error:
        raise InputError(f"{uri} cannot be read ({error.strerror or error}); check the path") from error


def _from_array(array: NDArray[np.generic], limits: ImageLimits) -> NDArray[np.uint8]:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in _CHANNELS or 0 in array.shape:
        raise InputError(
            f"an array of shape {array.shape} is no image; give (height, width) or (height, width, channels) with "
            "1 to 4 channels last"
        )
    limits.check_pixels(array.shape[1], array.shape[0])
    values = _bytes_of(array).reshape(*array.shape[:2], channels)
    if channels in (2, 4):
        return rgb_of_picture(Image.fromarray(values, "LA" if channels == 2 else "RGBA"))
    return np.ascontiguousarray(np.broadcast_to(values, (*array.shape[:2], 3)))


def _bytes_of(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if np.issubdtype(array.dtype, np.floating):
        values = array.astype(np.float64)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise InputError(
                "a floating-point image must be finite and lie in [0, 1]; divide it by its maximum, or make it uint8"
            )
        return np.rint(values * 255).astype(np.uint8)
    raise InputError(f"an array of {array.dtype} is no image; convert it to uint8, or to floats in [0, 1]")
