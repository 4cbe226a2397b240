from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label


def fill_small_holes(mask: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_]:
    """(H, W) bool → the same with every 8-connected background region under `min_area` pixels filled."""
    regions, areas = _regions(~mask)
    filled: NDArray[np.bool_] = mask | (areas < min_area)[regions] & (regions > 0)
    return filled


def drop_small_islands(mask: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_]:
    """(H, W) bool → the same without its 8-connected regions under `min_area` pixels; the largest one always stays."""
    regions, areas = _regions(mask)
    if len(areas) == 1:
        return mask
    kept = areas >= min_area
    kept[1 + int(np.argmax(areas[1:]))] = True
    kept[0] = False
    islands: NDArray[np.bool_] = kept[regions]
    return islands


def small_islands(mask: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_]:
    """(H, W) bool → the mask's 8-connected regions under `min_area` pixels, possibly all of them."""
    regions, areas = _regions(mask)
    islands: NDArray[np.bool_] = mask & (areas < min_area)[regions]
    return islands


def small_holes(mask: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_]:
    """(H, W) bool → enclosed background regions under `min_area` pixels; those at the image's border do not count."""
    regions, areas = _regions(~mask)
    enclosed = areas < min_area
    enclosed[np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))] = False
    holes: NDArray[np.bool_] = ~mask & enclosed[regions]
    return holes


def _regions(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(H, W) region numbers from 1, 0 outside the mask; and the pixels of each number."""
    regions: NDArray[np.int64] = label(mask, connectivity=2)  # type: ignore[no-untyped-call]
    return regions, np.bincount(regions.ravel(), minlength=1)
