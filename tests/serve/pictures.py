"""Small image files for requests."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageDraw


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    """The image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, **options)
    return buffer.getvalue()


def picture(seed: int = 0, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Coloured discs on a plain ground; another seed, another picture."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(random.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        x, y, radius = random.integers(0, size[0]), random.integers(0, size[1]), random.integers(6, 20)
        colour = tuple(random.integers(0, 256, 3).tolist())
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image


def picture_file(seed: int = 0, size: tuple[int, int] = (96, 64)) -> bytes:
    """`picture` as a PNG file."""
    return encoded(picture(seed, size))
