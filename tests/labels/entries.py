"""Entries of the log of corrections."""

from __future__ import annotations

from dataclasses import replace

from everymask.labels.correction import CorrectedMask, ImageCorrection
from everymask.labels.rows import ImageRow
from tests.labels.examples import images

IMAGE = images(classes=True)[0]


def entry(*actions: str, at: int = 0, image: ImageRow = IMAGE, **fields: object) -> ImageCorrection:
    """What became of the two masks of the example."""
    assert image.labels is not None
    masks = tuple(
        CorrectedMask(action, str(mask.mask_id), mask.mask_id, mask.rle, mask.class_id, mask.class_name, 1.0)  # type: ignore[arg-type]
        for action, mask in zip(actions, image.labels.masks, strict=True)
    )
    time = f"2026-11-29T10:00:{at:02d}.000+00:00"
    made = ImageCorrection(image.image_id, image.content_sha256, (40, 60), "browser", "ada", time, time, masks)
    return replace(made, uri=image.uri, **fields)  # type: ignore[arg-type]
