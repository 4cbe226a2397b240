"""Labels large pictures in overlapping tiles, to find small entities at full detail.

The whole picture is labelled too and gives everything larger than a tile. Everything else comes from the tiles; masks
that agree in the overlap of two tiles are joined, so none ends at a seam. Masks with classes are joined within each
class. All of this is our choice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from everymask.masks.rle import boxes_from_rles, rle_areas
from everymask.masks.runs import crop_of, rle_from_crop
from everymask.records import ImageLabels, LabelledMask

Box = tuple[int, int, int, int]
Join = Callable[[ImageLabels, Sequence[Box], Sequence[ImageLabels]], ImageLabels]
"""Labels of the whole picture, tiles, and the tiles' labels → labels of the picture."""

Number = TypeVar("Number", np.int32, np.bool_)

OVERLAP = 0.25
"""Share of a tile's side shared with the next tile."""
_SAME = 0.5
"""IoU from which two masks are the same entity, in the overlap of tiles or in the whole picture."""
_COVERED = 0.5
"""A mask with at least this share covered by others adds nothing."""
_REMNANT = 0.3
"""A mask with a smaller share left uncovered is dropped."""
_EDGE = 0.01
"""A mask this close to a tile's edge, as a share of its side, counts as cut off there."""


@dataclass(frozen=True)
class _Piece:
    """A mask in picture coordinates: its tight box, the pixels inside, and its record."""

    box: Box
    pixels: NDArray[np.bool_]
    mask: LabelledMask
    tile: Box

    @property
    def area(self) -> int:
        return int(self.pixels.sum())

    def inside(self, box: Box) -> NDArray[np.bool_]:
        """The pixels in a box within its own."""
        x0, y0, x1, y1 = box
        left, top = self.box[:2]
        return self.pixels[y0 - top : y1 - top, x0 - left : x1 - left]


def make_tiles(size_hw: tuple[int, int], along_longer_side: int) -> list[Box]:
    """Boxes (x0, y0, x1, y1) of square tiles that overlap by at least `OVERLAP` and cover a picture, row by row."""
    longer = max(size_hw)
    side = math.ceil(longer / (along_longer_side - (along_longer_side - 1) * OVERLAP))
    starts = []
    for length in size_hw:
        count = 1 if length <= side else math.ceil((length - OVERLAP * side) / (side * (1 - OVERLAP)))
        starts.append(np.linspace(0, max(0, length - side), count).round().astype(int).tolist())
    height, width = size_hw
    return [(x, y, min(x + side, width), min(y + side, height)) for y, x in itertools.product(*starts)]


def label_in_tiles(
    image: NDArray[np.uint8],
    along_longer_side: int,
    label: Callable[[NDArray[np.uint8]], ImageLabels],
    join: Join | None = None,
) -> ImageLabels:
    """Label an RGB uint8 (H, W, 3) picture and its tiles.

    Args:
        along_longer_side: tiles along the picture's longer side; 1 labels only the whole.
        label: labels a picture of any size.
        join: combines the results; None is `join_tiles`, for disjoint masks.
    """
    whole = label(image)
    if along_longer_side == 1:
        return whole
    tiles = make_tiles(whole.size_hw, along_longer_side)
    found = [label(np.ascontiguousarray(image[y0:y1, x0:x1])) for x0, y0, x1, y1 in tiles]
    return (join or join_tiles)(whole, tiles, found)


def join_tiles(whole: ImageLabels, tiles: Sequence[Box], found: Sequence[ImageLabels]) -> ImageLabels:
    """Disjoint masks of a picture from the whole and its tiles, in descending score."""
    return _disjoint(_joined(whole, tiles, found), whole.size_hw)


def join_overlapping(whole: ImageLabels, tiles: Sequence[Box], found: Sequence[ImageLabels]) -> list[LabelledMask]:
    """Masks from the whole picture and its tiles, class by class; they may overlap, and masks of one class are still to
    be suppressed."""
    classes = sorted({mask.class_id for labels in (whole, *found) for mask in labels.masks}, key=str)
    return [
        _with_pixels(piece, piece.pixels, whole.size_hw)
        for class_id in classes
        for piece in _joined(_of_class(whole, class_id), tiles, [_of_class(labels, class_id) for labels in found])
    ]


def _of_class(labels: ImageLabels, class_id: int | None) -> ImageLabels:
    return replace(labels, masks=tuple(mask for mask in labels.masks if mask.class_id == class_id))


def _joined(whole: ImageLabels, tiles: Sequence[Box], found: Sequence[ImageLabels]) -> list[_Piece]:
    """Masks larger than a tile, masks that only the whole picture shows, and the tiles' masks."""
    side = max(tiles[0][2] - tiles[0][0], tiles[0][3] - tiles[0][1])
    everywhere = (0, 0, whole.size_hw[1], whole.size_hw[0])
    from_whole = [_piece(mask, everywhere) for mask in whole.masks]
    pieces = [[_piece(mask, tile) for mask in labels.masks] for tile, labels in zip(tiles, found, strict=True)]
    large = [piece for piece in from_whole if max(piece.mask.box_xyxy[2:] - np.array(piece.mask.box_xyxy[:2])) > side]
    entities = []
    for group in _groups(pieces):
        joined = _union(group)
        rivals = from_whole if _is_cut(group, everywhere) else large
        if not any(_is_same(joined, other) for other in rivals) and not (
            rivals is from_whole and any(_overlap(joined, other) >= _COVERED * joined.area for other in rivals)
        ):
            entities.append(joined)
    covered = np.zeros(whole.size_hw, dtype=np.bool_)
    for piece in entities:
        _view(covered, piece.box)[piece.pixels] = True
    small = [
        piece
        for piece in from_whole
        if not any(piece is other for other in large) and _view(covered, piece.box)[piece.pixels].mean() < _COVERED
    ]
    return [*large, *small, *entities]


def _piece(mask: LabelledMask, tile: Box) -> _Piece:
    x0, y0, x1, y1 = mask.box_xyxy
    left, top = tile[:2]
    x, y = mask.point_coords
    moved = replace(mask, point_coords=(x + left, y + top))
    return _Piece((x0 + left, y0 + top, x1 + left, y1 + top), crop_of(mask.rle, mask.box_xyxy), moved, tile)


def _view(array: NDArray[Number], box: Box) -> NDArray[Number]:
    x0, y0, x1, y1 = box
    return array[y0:y1, x0:x1]


def _common(first: Box, second: Box) -> Box | None:
    x0, y0, x1, y1 = (*map(max, first[:2], second[:2]), *map(min, first[2:], second[2:]))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _overlap(first: _Piece, second: _Piece) -> int:
    box = _common(first.box, second.box)
    return 0 if box is None else int((first.inside(box) & second.inside(box)).sum())


def _is_same(first: _Piece, second: _Piece) -> bool:
    """Whether two pieces agree where both tiles overlap."""
    shared = _overlap(first, second)
    if not shared:
        return False
    region = _common(first.tile, second.tile)
    assert region is not None
    areas = []
    for piece in (first, second):
        box = _common(piece.box, region)
        areas.append(0 if box is None else int(piece.inside(box).sum()))
    return shared >= _SAME * (sum(areas) - shared)


def _groups(pieces: Sequence[Sequence[_Piece]]) -> list[list[_Piece]]:
    """Pieces of all tiles, grouped by entity."""
    flat = [piece for tile in pieces for piece in tile]
    number = [index for index, tile in enumerate(pieces) for _ in tile]
    parent = list(range(len(flat)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in itertools.combinations(range(len(flat)), 2):
        if number[first] != number[second] and _is_same(flat[first], flat[second]):
            parent[root(first)] = root(second)
    groups: dict[int, list[_Piece]] = {}
    for index, piece in enumerate(flat):
        groups.setdefault(root(index), []).append(piece)
    return list(groups.values())


def _union(group: Sequence[_Piece]) -> _Piece:
    """The union of a group, with the record of its largest piece; its tile becomes the whole picture."""
    if len(group) == 1:
        return group[0]
    lows = np.min([piece.box[:2] for piece in group], axis=0).tolist()
    highs = np.max([piece.box[2:] for piece in group], axis=0).tolist()
    box = (lows[0], lows[1], highs[0], highs[1])
    pixels = np.zeros((box[3] - box[1], box[2] - box[0]), dtype=np.bool_)
    for piece in group:
        x0, y0, x1, y1 = piece.box
        pixels[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]] |= piece.pixels
    tiles = [piece.tile for piece in group]
    tile_lows, tile_highs = np.min([t[:2] for t in tiles], axis=0), np.max([t[2:] for t in tiles], axis=0)
    tile = (int(tile_lows[0]), int(tile_lows[1]), int(tile_highs[0]), int(tile_highs[1]))
    return _Piece(box, pixels, max(group, key=lambda piece: piece.area).mask, tile)


def _is_cut(group: Sequence[_Piece], picture: Box) -> bool:
    """Whether a piece ends at an edge of its tile inside the picture, without another piece going on beyond it."""
    for piece in group:
        margin = max(2.0, _EDGE * max(piece.tile[2] - piece.tile[0], piece.tile[3] - piece.tile[1]))
        for edge, outwards in ((0, -1), (1, -1), (2, 1), (3, 1)):
            at_edge = abs(piece.box[edge] - piece.tile[edge]) <= margin
            inside = piece.tile[edge] != picture[edge]
            goes_on = any(outwards * (other.tile[edge] - piece.tile[edge]) > margin for other in group)
            if at_edge and inside and not goes_on:
                return True
    return False


def _disjoint(pieces: Sequence[_Piece], size_hw: tuple[int, int]) -> ImageLabels:
    """Give each pixel to the smallest mask on it, after dropping masks with too little left."""
    ordered = sorted(pieces, key=lambda piece: piece.area, reverse=True)
    owner = np.full(size_hw, -1, dtype=np.int32)
    for index, piece in enumerate(ordered):
        _view(owner, piece.box)[piece.pixels] = index
    masks = []
    for index, piece in enumerate(ordered):
        left = _view(owner, piece.box) == index
        if left.sum() < max(1, _REMNANT * piece.area):
            continue
        masks.append(_with_pixels(piece, left, size_hw))
    masks.sort(key=lambda mask: mask.score, reverse=True)
    return ImageLabels(size_hw, tuple(masks), sum(mask.area for mask in masks) / (size_hw[0] * size_hw[1]))


def _with_pixels(piece: _Piece, pixels: NDArray[np.bool_], size_hw: tuple[int, int]) -> LabelledMask:
    """A piece's record with the given pixels of its box, at least one."""
    rle = rle_from_crop(pixels, piece.box[:2], size_hw)
    x0, y0, x1, y1 = boxes_from_rles([rle])[0].tolist()
    return replace(piece.mask, rle=rle, box_xyxy=(x0, y0, x1, y1), area=int(rle_areas([rle])[0]))
