"""Removes specks, pin-holes, and masks that are too small or too large, for every method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from everymask.masks.regions import small_holes, small_islands
from everymask.masks.rle import boxes_from_rles, decode_mask, encode_mask, rle_areas, rle_coverage
from everymask.records import ImageLabels, LabelledMask


def limit_region_sizes(labels: ImageLabels, min_area: int = 0, max_area: int | None = None) -> ImageLabels:
    """The labels without regions under `min_area` pixels and without masks over `max_area`.

    Connected regions of a mask under `min_area` are removed, and masks that lose all their pixels. Then holes under
    `min_area` are filled with their uncovered pixels: disjoint masks stay disjoint, and a speck removed inside another
    mask goes to that mask.
    """
    masks = [mask for mask in labels.masks if max_area is None or mask.area <= max_area]
    if min_area > 1:
        masks = _without_small_regions(masks, labels.size_hw, min_area)
    if len(masks) == len(labels.masks) and all(new is old for new, old in zip(masks, labels.masks, strict=True)):
        return labels
    return replace(labels, masks=tuple(masks), coverage=rle_coverage([mask.rle for mask in masks], labels.size_hw))


def _without_small_regions(masks: list[LabelledMask], size_hw: tuple[int, int], min_area: int) -> list[LabelledMask]:
    kept = []
    for mask in masks:
        pixels = decode_mask(mask.rle)
        window = _window(mask, size_hw)
        specks = small_islands(pixels[window], min_area)
        if specks.any():
            pixels[window] &= ~specks
            mask = _with_pixels(mask, pixels)
        if mask.area:
            kept.append(mask)
    covered = _covered(kept, size_hw)
    filled = []
    for mask in kept:
        window = _window(mask, size_hw)
        pixels = decode_mask(mask.rle)
        holes = small_holes(pixels[window], min_area) & ~covered[window]
        if holes.any():
            pixels[window] |= holes
            covered[window] |= holes
            mask = _with_pixels(mask, pixels)
        filled.append(mask)
    return filled


def _window(mask: LabelledMask, size_hw: tuple[int, int]) -> tuple[slice, slice]:
    """The mask's box with a margin of a pixel, so that the outside is one region."""
    x0, y0, x1, y1 = mask.box_xyxy
    return slice(max(0, y0 - 1), min(size_hw[0], y1 + 1)), slice(max(0, x0 - 1), min(size_hw[1], x1 + 1))


def _covered(masks: list[LabelledMask], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    covered = np.zeros(size_hw, dtype=np.bool_)
    for mask in masks:
        covered |= decode_mask(mask.rle)
    return covered


def _with_pixels(mask: LabelledMask, pixels: NDArray[np.bool_]) -> LabelledMask:
    rle = encode_mask(pixels)
    x0, y0, x1, y1 = boxes_from_rles([rle])[0].tolist()
    return replace(mask, rle=rle, box_xyxy=(x0, y0, x1, y1), area=int(rle_areas([rle])[0]))
