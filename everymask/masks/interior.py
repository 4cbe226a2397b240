from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def interior_points(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(S, H, W) bool, none empty → (S, 2) centre (x, y) of the pixel farthest from each mask's border.

    The image's edge counts as border; ties go to the first pixel in raster order.
    """
    points = np.empty((len(masks), 2), dtype=np.float32)
    for index, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        window = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        depth = ndimage.distance_transform_edt(np.pad(window, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        points[index] = columns[0] + column + 0.5, rows[0] + row + 0.5
    return points
