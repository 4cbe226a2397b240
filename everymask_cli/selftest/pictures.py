"""The pictures of a self-test: photographs that come with scikit-image, or the user's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import ConfigurationError
from everymask.images.decoding import IMAGE_SUFFIXES, decode_image

_INSTALLED = ("astronaut.png", "chelsea.png", "coffee.png")
_LARGE = ("coffee.png", (2400, 1600))
MOST_OF_A_FOLDER = 8


def installed_pictures(large: bool = True) -> dict[str, NDArray[np.uint8]]:
    """Photographs of 0.1 to 0.3 megapixels: (H, W, 3) uint8 by name.

    Args:
        large: add one of them enlarged to 2400 x 1600.
    """
    folder = Path(skimage.__file__).parent / "data"
    pictures = {name: _rgb(Image.open(folder / name)) for name in _INSTALLED}
    if large:
        name, size = _LARGE
        with Image.open(folder / name) as image:
            pictures[f"{name}, enlarged"] = _rgb(image.resize(size, Image.Resampling.BICUBIC))
    return pictures


def pictures_in(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """The first pictures of a folder by name, upright.

    Raises:
        ConfigurationError: it holds none.
        InputError: one cannot be decoded.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise ConfigurationError(f"{folder} holds no picture; give a folder with some to --images")
    return {path.name: decode_image(path.read_bytes()) for path in files[:MOST_OF_A_FOLDER]}


def save_pictures(pictures: Mapping[str, NDArray[np.uint8]], path: Path) -> None:
    """Write pictures as `Task.pictures`."""
    arrays: Mapping[str, Any] = pictures
    np.savez(path, **arrays)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB"))
