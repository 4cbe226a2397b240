"""Encoded masks and what is known of each → the records that stores, services and exports share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.masks.rle import boxes_from_rles, rle_areas
from everymask.masks.runs import rle_from_crop
from everymask.records import LabelledMask, Rle


def labelled_masks(
    rles: Sequence[Rle],
    *,
    predicted_iou: Sequence[float | None],
    stability_score: Sequence[float],
    point_coords: Sequence[Sequence[float]],
    score: Sequence[float],
    class_id: Sequence[int] | None = None,
    class_names: Sequence[str] = (),
    uncertainty: Sequence[float] | None = None,
    agreement: Sequence[float] | None = None,
) -> list[LabelledMask]:
    """Records of N encoded masks at the image's resolution, in order; masks without a pixel are left out.

    Args:
        rles: N masks.
        predicted_iou: N values, about [0, 1]; None where a model makes no such estimate.
        stability_score: N values in [0, 1].
        point_coords: N prompts (x, y) in original pixels.
        score: N values; brought into [0, 1].
        class_id: N indices into `class_names`; None for entities.
        class_names: the name of every class.
        uncertainty: N values in [0, 1]; None for entities.
        agreement: N values in [0, 1]; None where the method knows none.
    """
    areas, boxes = rle_areas(rles).tolist(), boxes_from_rles(rles).tolist()
    return [
        LabelledMask(
            rle=rle,
            box_xyxy=(boxes[i][0], boxes[i][1], boxes[i][2], boxes[i][3]),
            area=areas[i],
            predicted_iou=None if (iou := predicted_iou[i]) is None else float(iou),
            stability_score=float(stability_score[i]),
            point_coords=(float(point_coords[i][0]), float(point_coords[i][1])),
            score=min(max(float(score[i]), 0.0), 1.0),
            class_id=None if class_id is None else int(class_id[i]),
            class_name=None if class_id is None else class_names[int(class_id[i])],
            uncertainty=None if uncertainty is None else float(uncertainty[i]),
            agreement=None if agreement is None else float(agreement[i]),
        )
        for i, rle in enumerate(rles)
        if areas[i] > 0
    ]


def rle_of_copy(
    copy: NDArray[np.bool_], corner_xy: tuple[int, int], mask: LabelledMask, crop: NDArray[np.bool_]
) -> Rle:
    """Encode the copy of a mask that a file gave back: (h, w) pixels at `corner_xy` of an otherwise empty image.

    `crop` is what the mask has inside its box. A copy without a change has the mask's own encoding, since comparing is
    several times faster than encoding.
    """
    (left, top), (x0, y0, x1, y1), (height, width) = corner_xy, mask.box_xyxy, mask.rle["size"]
    inside = copy[max(y0 - top, 0) : y1 - top, max(x0 - left, 0) : x1 - left]
    if np.count_nonzero(copy) == mask.area and np.array_equal(inside, crop):
        return mask.rle
    return rle_from_crop(copy, corner_xy, (height, width))
