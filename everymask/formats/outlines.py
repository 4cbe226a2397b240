"""Masks as polygons for other tools: outlines along pixel edges, simplified within a tolerance.

All polygons are in pixels with corners at pixel corners, so x lies in [0, width] and y in [0, height].
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.masks.column_runs import ColumnRuns
from everymask.masks.edge_polygons import edge_polygon_runs
from everymask.masks.pixel_polygons import fill_pixel_polygons
from everymask.masks.polygons import outline_rings, polygons_from_mask, ring_area
from everymask.masks.rle import rle_ious
from everymask.masks.runs import crop_of
from everymask.masks.simplification import Simplification, simplified_rings
from everymask.masks.tracing import trace
from everymask.records import LabelledMask, Rle

Polygon = NDArray[np.float64]
"""(K, 2) corners (x, y) in pixels, closed implicitly."""

MIN_IOU = 0.99
"""Least IoU of a simplified mask with the original; small masks get a finer tolerance to reach it."""
_HALVINGS = 4


def coco_polygons(mask: LabelledMask, tolerance_px: float) -> list[list[float]]:
    """A COCO `segmentation`: one polygon per part, its holes joined in by cuts of no width.

    With a tolerance, parts are cut through their holes instead, because simplifying would open a cut of no width.
    """
    if mask.area == 0:
        return []
    if tolerance_px == 0:
        return _flat(_shifted(polygons_from_mask(crop_of(mask.rle, mask.box_xyxy)), mask))
    return _flat(simple_polygons(mask, tolerance_px))


def simple_polygons(mask: LabelledMask, tolerance_px: float = 0.0) -> list[Polygon]:
    """Polygons without holes whose union is the mask; a part with a hole is cut in two through the hole.

    An empty mask gives an empty list. `tolerance_px` is how far the outline may move; 0 keeps all corners.
    """
    height, width = mask.rle["size"]
    return simple_polygons_of([mask], (height, width), tolerance_px)[0]


def simple_polygons_of(
    masks: Sequence[LabelledMask], size_hw: tuple[int, int], tolerance_px: float = 0.0
) -> list[list[Polygon]]:
    """`simple_polygons` for many masks of an image at once.

    With a tolerance, outlines are simplified (Douglas and Peucker, 1973), each at the largest of tolerance,
    tolerance / 2, … that keeps `MIN_IOU`.
    """
    return _simple_polygons(_stored(masks, size_hw), masks, tolerance_px)[0]


def simple_polygons_and_masks(
    masks: Sequence[LabelledMask], size_hw: tuple[int, int], tolerance_px: float
) -> tuple[list[list[Polygon]], list[Rle]]:
    """`simple_polygons_of`, and the masks that pycocotools fills of them."""
    stored = _stored(masks, size_hw)
    polygons, filled = _simple_polygons(stored, masks, tolerance_px)
    found: dict[int, Rle] = {}
    for numbers, runs in filled:
        found |= zip(numbers.tolist(), runs.rles(numbers.size), strict=True)
    exact = np.array([number for number in range(len(masks)) if number not in found], dtype=np.int64)
    runs = edge_polygon_runs([polygons[number] for number in exact], size_hw)
    copies = runs.rles_of_copies(stored.of(exact), [masks[number].rle for number in exact])
    found |= zip(exact.tolist(), copies, strict=True)
    return polygons, [found[number] for number in range(len(masks))]


def _stored(masks: Sequence[LabelledMask], size_hw: tuple[int, int]) -> ColumnRuns:
    return ColumnRuns.of_rles([mask.rle for mask in masks], size_hw)


def _simple_polygons(
    stored: ColumnRuns, masks: Sequence[LabelledMask], tolerance_px: float
) -> tuple[list[list[Polygon]], list[tuple[NDArray[np.int64], ColumnRuns]]]:
    """As `simple_polygons_of`, and numbers of masks whose outline was simplified with what those outlines fill to."""
    polygons = _exact_polygons(stored, masks)
    filled: list[tuple[NDArray[np.int64], ColumnRuns]] = []
    if tolerance_px <= 0:
        return polygons, filled
    pending = np.arange(len(masks))
    firsts = np.cumsum([0, *map(len, polygons)]).tolist()
    simplification = Simplification(list(itertools.chain.from_iterable(polygons)))
    for halving in range(_HALVINGS):
        if not pending.size:
            break
        asked = [ring for number in pending.tolist() for ring in range(firsts[number], firsts[number + 1])]
        rings = iter(simplification.within(tolerance_px / 2**halving, asked))
        simpler = [list(itertools.islice(rings, len(polygons[number]))) for number in pending]
        runs = edge_polygon_runs(simpler, stored.size_hw)
        near = runs.ious(stored, pending.size) >= MIN_IOU
        for place in np.flatnonzero(near):
            polygons[pending[place]] = simpler[place]
        filled.append((pending[near], runs.of(np.flatnonzero(near))))
        stored, pending = stored.of(np.flatnonzero(~near)), pending[~near]
    return polygons, filled


def _exact_polygons(stored: ColumnRuns, masks: Sequence[LabelledMask]) -> list[list[Polygon]]:
    outlines = trace(stored)
    rings = outlines.corner_rings()
    bounds = np.searchsorted(outlines.masks, np.arange(len(masks) + 1)).tolist()
    return [
        _shifted(_simple_rings(crop_of(mask.rle, mask.box_xyxy)), mask)
        if outlines.is_hole[first:last].any()
        else [ring.astype(np.float64) for ring in rings[first:last]]
        for mask, (first, last) in zip(masks, itertools.pairwise(bounds), strict=True)
    ]


def simplified_pixels(polygon: NDArray[np.int64], rle: Rle, tolerance_px: float) -> NDArray[np.int64]:
    """A ring of (K, 2) pixels through pixel centres, with fewer corners as by `simple_polygons_of`."""
    height, width = rle["size"]
    for halving in range(_HALVINGS if len(polygon) >= 3 else 0):
        (ring,) = simplified_rings([polygon.astype(np.float64)], tolerance_px / 2**halving)
        fewer = ring.astype(np.int64)
        if float(rle_ious([rle], fill_pixel_polygons([fewer], (height, width)))[0, 0]) >= MIN_IOU:
            return fewer
    return polygon


def _simple_rings(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    from skimage.measure import label, regionprops  # takes seconds, and most exports do without

    if not mask.any():
        return []
    found = []
    for region in regionprops(label(mask, connectivity=1)):  # type: ignore[no-untyped-call]
        part = region.image
        corner = np.array([region.bbox[1], region.bbox[0]])
        rings = outline_rings(part)
        if len(rings) == 1:
            found.append(rings[0] + corner)
            continue
        # Cut through the hole nearest to the middle, across the longer side: halves shrink fastest that way.
        axis = 0 if part.shape[1] >= part.shape[0] else 1
        middle = part.shape[1 - axis] / 2
        holes = sorted(rings, key=lambda ring: abs(ring_area(ring)))[:-1]
        cuts = [int(hole[:, axis].min() + hole[:, axis].max()) // 2 for hole in holes]
        cut = min(cuts, key=lambda position: abs(position - middle))
        first, second = (part[:, :cut], part[:, cut:]) if axis == 0 else (part[:cut], part[cut:])
        offset = np.array([cut, 0] if axis == 0 else [0, cut])
        found += [ring + corner for ring in _simple_rings(first)]
        found += [ring + corner + offset for ring in _simple_rings(second)]
    return found


def _shifted(rings: Sequence[NDArray[np.int64]], mask: LabelledMask) -> list[Polygon]:
    return [(ring + np.array(mask.box_xyxy[:2])).astype(np.float64) for ring in rings]


def _flat(polygons: Sequence[Polygon]) -> list[list[float]]:
    return [polygon.ravel().tolist() for polygon in polygons]
