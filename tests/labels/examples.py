"""Rows to store: masks with holes, several parts, no mask at all, and failures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everymask.labels.mask_ids import with_mask_ids
from everymask.labels.rows import ImageRow
from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels, LabelledMask


def mask_record(mask: NDArray[np.bool_], score: float, class_id: int | None = None) -> LabelledMask:
    """A record of an (H, W) bool mask with at least one pixel."""
    ys, xs = np.nonzero(mask)
    return LabelledMask(
        rle=encode_mask(mask),
        box_xyxy=(int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1),
        area=int(mask.sum()),
        predicted_iou=0.75,
        stability_score=0.5,
        point_coords=(float(xs[0]) + 0.5, float(ys[0]) + 0.5),
        score=score,
        class_id=class_id,
        class_name=None if class_id is None else ("cat", "dog")[class_id],
        uncertainty=None if class_id is None else 0.25,
    )


def ring_and_disc() -> list[NDArray[np.bool_]]:
    """Two disjoint (40, 60) masks: a ring, and two separate blobs."""
    y, x = np.mgrid[:40, :60]
    distance = np.hypot(y - 19.5, x - 20.5)
    ring = (distance < 16) & (distance > 8)
    blobs = ((y - 8) ** 2 + (x - 48) ** 2 < 36) | ((y > 25) & (y < 37) & (x > 42) & (x < 58))
    return [ring, blobs]


def labels(classes: bool = False) -> ImageLabels:
    """Labels of a 60 x 40 image; masks have ids."""
    masks = [mask_record(mask, 0.875 - 0.25 * i, i if classes else None) for i, mask in enumerate(ring_and_disc())]
    covered = np.logical_or.reduce(ring_and_disc())
    found = ImageLabels(size_hw=(40, 60), masks=tuple(masks), coverage=float(np.float32(covered.mean())))
    return with_mask_ids(found, "ab" * 32, "0" * 64)


def images(classes: bool = False) -> list[ImageRow]:
    """Three rows: labelled, labelled without a mask, failed."""
    return [
        ImageRow("a/1.jpg", "/photos/a/1.jpg", labels(classes), None, "ab" * 32, 0.5),
        ImageRow("b/1.jpg", "/photos/b/1.jpg", ImageLabels((7, 9), (), 0.0), None, "cd" * 32, 0.25),
        ImageRow("c.jpg", "/photos/c.jpg", None, "the file is empty (0 bytes)"),
    ]
