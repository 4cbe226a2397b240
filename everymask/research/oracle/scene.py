"""Pictures with known objects, parts and sub-parts: cut from annotations, or drawn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree
from skimage.segmentation import felzenszwalb

from everymask.evaluation.ground_truth import EntityTruth
from everymask.masks.rle import decode_mask

IntArray = NDArray[np.int64]

NOTHING = -1
"""Label of pixels that belong to no object."""

_WORKING_SIDE_PX = 256
_PART_SCALE, _SUBPART_SCALE = 300, 80
_MIN_PIECE = 0.001
"""Least share of the picture of parts and sub-parts of annotated entities."""
_PARTS_PER_OBJECT, _SUBPARTS_PER_OBJECT = 2, 4


@dataclass(frozen=True)
class Scene:
    """A picture cut into sub-parts; each lies in one part, each part in one object.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        subparts: (H, W) int64 in [0, S), or `NOTHING`.
        part: (S,) int64, each sub-part's part.
        object: (S,) int64, each sub-part's object.
    """

    image: NDArray[np.uint8]
    subparts: IntArray
    part: IntArray
    object: IntArray

    @property
    def objects(self) -> IntArray:
        """(H, W) int64 objects, or `NOTHING`."""
        return np.append(self.object, NOTHING)[self.subparts]


def picture_digest(image: NDArray[np.uint8]) -> str:
    """Hex SHA-256 of an image's size and pixels."""
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def nested_scene(
    image: NDArray[np.uint8], objects: IntArray, parts: IntArray, subparts: IntArray, least_piece: float = 0.0
) -> Scene:
    """A scene from three (H, W) label maps of non-negative values, each cut along the next.

    Pixels with a negative object belong to nothing. A piece under `least_piece` of the picture joins the largest piece
    of the region it was cut from.
    """
    parts = _cut(objects, parts, least_piece)
    subparts = _cut(parts, subparts, least_piece)
    inside = subparts >= 0
    _, first = np.unique(subparts[inside], return_index=True)
    return Scene(image, subparts, parts[inside][first], objects[inside][first])


def annotated_scene(image: NDArray[np.uint8], truth: EntityTruth) -> Scene:
    """Annotated entities as objects; Felzenszwalb's superpixels at two scales cut their parts and sub-parts."""
    objects = np.full(truth.size_hw, NOTHING, dtype=np.int64)
    for index, rle in enumerate(truth.entities):
        objects[decode_mask(rle)] = index
    parts, subparts = _superpixels(image, _PART_SCALE), _superpixels(image, _SUBPART_SCALE)
    return nested_scene(image, objects, parts, subparts, _MIN_PIECE)


def drawn_scene(regions: int, size_hw: tuple[int, int] = (480, 640), seed: int = 0) -> Scene:
    """A drawn picture of `regions` plain-coloured objects, on average with two parts and four sub-parts each.

    An object is what lies nearest to a random point, so sizes vary greatly; objects smaller than a pixel may be
    missing.
    """
    height, width = size_hw
    generator = np.random.default_rng(seed)
    # The first points of a level are those of the level above, so that each of its regions has a piece.
    points = generator.random((regions * _SUBPARTS_PER_OBJECT, 2)) * (height, width)
    corners, part_points = points[:regions], points[: regions * _PARTS_PER_OBJECT]
    pixels = np.indices(size_hw).reshape(2, -1).T + 0.5
    object_of_part = cKDTree(corners).query(part_points)[1]
    part_of_subpart = cKDTree(part_points).query(points)[1]
    nearest = cKDTree(points).query(pixels)[1]
    parts = part_of_subpart[nearest]
    objects = object_of_part[parts]
    colours = generator.integers(0, 224, (regions, 3))
    shades = generator.integers(0, 16, (len(part_points), 1)) + generator.integers(0, 8, (len(part_points), 3))
    image = (colours[objects] + shades[parts] + generator.integers(0, 8, (len(nearest), 1))).astype(np.uint8)
    maps = (labels.reshape(size_hw).astype(np.int64) for labels in (objects, parts, nearest))
    return nested_scene(image.reshape(height, width, 3), *maps)


def _superpixels(image: NDArray[np.uint8], scale: int) -> IntArray:
    """(H, W) int64 superpixels, found on the picture scaled to at most `_WORKING_SIDE_PX`."""
    height, width = image.shape[:2]
    shrink = max(1.0, max(height, width) / _WORKING_SIDE_PX)
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    labels = felzenszwalb(small, scale=scale, sigma=0.8, min_size=20)
    rows, columns = np.arange(height) * size[1] // height, np.arange(width) * size[0] // width
    return np.asarray(labels[np.ix_(rows, columns)], dtype=np.int64)


def _cut(wholes: IntArray, cut: IntArray, least_piece: float) -> IntArray:
    """(H, W) labels from 0: the regions of `wholes` cut along `cut`; `NOTHING` where a whole is negative."""
    inside = wholes >= 0
    keys = wholes[inside] * (int(cut.max()) + 1) + cut[inside]
    pieces, index, areas = np.unique(keys, return_inverse=True, return_counts=True)
    whole = pieces // (int(cut.max()) + 1)
    by_size = np.lexsort((-areas, whole))
    _, first, group = np.unique(whole[by_size], return_index=True, return_inverse=True)
    largest = np.empty_like(by_size)
    largest[by_size] = by_size[first][group]
    joined = np.where(areas < least_piece * wholes.size, largest, np.arange(len(pieces)))
    labels = np.full(wholes.shape, NOTHING, dtype=np.int64)
    labels[inside] = np.unique(joined[index], return_inverse=True)[1]
    return labels
