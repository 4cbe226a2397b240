"""What a new head finds in real pictures, for the page about its training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.embeddings import StoredEmbeddings
from everymask.classes.exemplars.manifest import Exemplar
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import classify_masks
from everymask.images.decoding import decode_image
from everymask.pictures.overlay import overlay

SHOWN = 24
"""Most scenes on the page."""
_PICTURE_SIDE = 480


def seen_in_scenes(
    head: ClassHead, records: Sequence[StoredEmbeddings], scenes: Sequence[Exemplar], folder: str, masks: MaskConfig
) -> Iterator[tuple[NDArray[np.uint8], str]]:
    """Pictures with their labels, as `everymask label` makes them, and captions such as `street.jpg: 2 car, 1 person`.

    Args:
        head: that was trained.
        records: mask embeddings of the scenes.
        scenes: the pictures.
        folder: that holds them.
        masks: how masks were proposed.
    """
    by_id = {record.image_id: record for record in records}
    for scene in [scene for scene in scenes if scene.bag_id in by_id][:SHOWN]:
        labels = classify_masks(by_id[scene.bag_id].embeddings, head, ClassesConfig(masks=masks))
        counts = Counter(str(mask.class_name) for mask in labels.masks)
        found = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
        image = decode_image((Path(folder) / scene.file).read_bytes())
        yield overlay(image, labels, max_side=_PICTURE_SIDE), f"{scene.file}: {found}"
