"""A store of the shapes that formats get wrong, disjoint, with the images they belong to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.labels.examples import mask_record

HEIGHT, WIDTH = 60, 80
PORTRAIT_SIZE = (40, 30)


def shapes() -> dict[str, NDArray[np.bool_]]:
    """Disjoint (HEIGHT, WIDTH) bool masks."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(y - 19.5, x - 20.5)
    nothing = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)

    def box(y0: int, y1: int, x0: int, x1: int) -> NDArray[np.bool_]:
        mask = nothing.copy()
        mask[y0:y1, x0:x1] = True
        return mask

    diagonal = nothing.copy()
    diagonal[44:48, 8:12] = diagonal[48:52, 12:16] = True
    return {
        "ring": (distance < 14) & (distance > 7),
        "one pixel": box(19, 20, 20, 21),
        "checkerboard": box(8, 24, 44, 60) & ((y + x) % 2 == 0),
        "two parts": box(34, 40, 30, 36) | box(34, 40, 50, 58),
        "diagonal contact": diagonal,
        "top": box(0, 2, 10, 70),
        "bottom": box(HEIGHT - 3, HEIGHT, 20, 60),
        "left": box(10, 50, 0, 3),
        "right": box(10, 50, WIDTH - 1, WIDTH),
        "corner": box(HEIGHT - 1, HEIGHT, WIDTH - 1, WIDTH),
    }


def sha256_of(file: Path) -> str:
    """What a row says of its image."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def shape_store(folder: Path) -> LabelStore:
    """`shapes/all.png`, `none.png` without a mask, and `portrait.jpg`, which EXIF turns upright.

    The images are in FOLDER/pictures, the store in FOLDER/store.
    """
    masks = [mask_record(mask, 0.95 - 0.05 * number, number % 2) for number, mask in enumerate(shapes().values())]
    portrait = np.zeros(PORTRAIT_SIZE, dtype=np.bool_)
    portrait[:30, 4:9] = portrait[25:30, 4:25] = True
    pictures = folder / "pictures"
    (pictures / "shapes").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pictures / "shapes" / "all.png")
    Image.fromarray(noise).save(pictures / "none.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(noise[: PORTRAIT_SIZE[0], : PORTRAIT_SIZE[1]])).save(pictures / "portrait.jpg", exif=exif)
    rows = {
        "shapes/all.png": ImageLabels((HEIGHT, WIDTH), tuple(masks), 0.5),
        "none.png": ImageLabels((HEIGHT, WIDTH), (), 0.0),
        "portrait.jpg": ImageLabels(PORTRAIT_SIZE, (mask_record(portrait, 0.5, 0),), 0.2),
    }
    store = LabelStore(str(folder / "store"))
    images = [
        ImageRow(name, str(pictures / name), labels, content_sha256=sha256_of(pictures / name))
        for name, labels in rows.items()
    ]
    store.write_part(to_table(images), {"input": str(pictures)})
    return store
