"""A scene on SAM's decoder grid: how much of each decoder pixel a sub-part fills, in displaced versions too."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from everymask.backbone.sam.frame import DECODER_STRIDE, Frame
from everymask.research.oracle.errors import OracleErrors
from everymask.research.oracle.scene import IntArray, Scene

SAMPLES = DECODER_STRIDE**2
"""Network pixels in a decoder pixel, the unit in which regions fill it."""

_WEAK_EDGE = 16.0
"""Colour levels of difference that make a border e times harder to cross (our choice)."""

_SMALL_PIECE = 0.05
"""Largest share of their object for holes and islands (our choice)."""

_TOKENS_PER_WAVE = 2
"""Boundaries are displaced alike within about this many image tokens."""


@dataclass(frozen=True)
class SceneCells:
    """The data from which clicks on a scene are answered, kept as the features of an `ImageEmbedding`.

    S sub-parts, where number S stands for none; O objects; V displaced versions of the scene after the true one.

    Attributes:
        subpart_at: (h, w) int64, the sub-part under each pixel of the network's input.
        part, object: (S + 1,) int64, those of each sub-part; -1 for none.
        area: (S + 1,) float32, network pixels of each sub-part.
        pure: (V + 1, P) int64, the sub-part that fills a decoder pixel, S if none or several do.
        mixed_start: (V + 2,) int64, where the mixed decoder pixels of each version begin.
        mixed_cell, mixed_subpart, mixed_count: (E,) int64, network pixels of each sub-part in a mixed one.
        object_border: (O, O) float32, length of the border between two objects in decoder pixels.
        subpart_border: (S, S) float32, the same between sub-parts.
        leak: (O, S) float32, how easily an object's mask runs over into another's sub-part: the length of their border,
            reduced as their colours differ.
        hole: (O, S) float32, 1 for the small sub-parts of an object.
        island: (O, S) float32, 1 for sub-parts of non-neighbours that are small beside the object.
        vectors: (S + 1, C) float32, the image feature of each sub-part; zeros for none.
        image: (C, T, U) float32 image tokens, the mean feature under each.
        seed: () int64, of the picture's random draws.
    """

    subpart_at: torch.Tensor
    part: torch.Tensor
    object: torch.Tensor
    area: torch.Tensor
    pure: torch.Tensor
    mixed_start: torch.Tensor
    mixed_cell: torch.Tensor
    mixed_subpart: torch.Tensor
    mixed_count: torch.Tensor
    object_border: torch.Tensor
    subpart_border: torch.Tensor
    leak: torch.Tensor
    hole: torch.Tensor
    island: torch.Tensor
    vectors: torch.Tensor
    image: torch.Tensor
    seed: torch.Tensor

    @property
    def nothing(self) -> int:
        """S, the number that stands for no sub-part."""
        return int(self.part.shape[0]) - 1

    def features(self) -> dict[str, torch.Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def counts(self, version: int, members: torch.Tensor) -> torch.Tensor:
        """(M, P) float32 network pixels of each decoder pixel in each of M sets (M, S + 1) bool of sub-parts."""
        full = members.float() * SAMPLES
        counts = torch.index_select(full, 1, self.pure[version])
        mixed = slice(int(self.mixed_start[version]), int(self.mixed_start[version + 1]))
        shares = torch.index_select(full, 1, self.mixed_subpart[mixed]) * (self.mixed_count[mixed] / SAMPLES)
        return counts.index_add_(1, self.mixed_cell[mixed], shares)


def scene_cells(scene: Scene, frame: Frame, errors: OracleErrors, feature_dim: int, seed: int) -> SceneCells:
    """Map a scene to the network's input and canvas, as it is and for each displacement."""
    generator = np.random.default_rng(seed)
    part, nothing = np.append(scene.part, -1), len(scene.part)
    owner = np.append(scene.object, -1)
    truth = _network_labels(scene, frame, None)
    versions = [truth]
    for _ in range(errors.boundary_variants):
        displacement = errors.boundary_px * DECODER_STRIDE * _waves(frame, generator)
        versions.append(_network_labels(scene, frame, displacement))
    blocks = [_blocks(labels) for labels in versions]
    mixed = [_mixed(block, nothing) for block in blocks]
    cells = [np.concatenate(column) for column in zip(*mixed, strict=True)]
    height, width = frame.input_size_hw
    subpart_border = _borders(truth, nothing)
    object_border = _summed(_summed(subpart_border, scene.object).T, scene.object)
    np.fill_diagonal(object_border, 0)
    area = np.bincount(truth.ravel(), minlength=len(part)).astype(np.float32)
    weak = _over_weak_edges(subpart_border, scene)
    leak, hole, island = _flaws(scene.object, object_border, weak, area[:-1])
    vectors = _vectors(part, owner, errors.appearance, feature_dim, generator)
    arrays = {
        "subpart_at": truth[:height, :width],
        "part": part,
        "object": owner,
        "area": area,
        "pure": np.stack([np.where((block == block[:, :1]).all(axis=1), block[:, 0], nothing) for block in blocks]),
        "mixed_start": np.cumsum([0, *(len(cell) for cell, _, _ in mixed)]),
        "mixed_cell": cells[0],
        "mixed_subpart": cells[1],
        "mixed_count": cells[2],
        "object_border": object_border,
        "subpart_border": subpart_border.astype(np.float32),
        "leak": leak,
        "hole": hole,
        "island": island,
        "vectors": vectors,
        "image": _tokens(truth, frame, vectors),
        "seed": np.array(seed),
    }
    return SceneCells(**{name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()})


def _network_labels(scene: Scene, frame: Frame, displacement: NDArray[np.float32] | None) -> IntArray:
    """(4 H', 4 W') sub-part under each network pixel of the canvas; beyond the picture its edge is repeated."""
    sides = [DECODER_STRIDE * side for side in frame.canvas_size_hw]
    positions = np.indices(sides, dtype=np.float32) + 0.5
    if displacement is not None:
        positions += displacement
    rows, columns = (
        (position * (original / network)).astype(np.int64).clip(0, original - 1)
        for position, original, network in zip(positions, frame.original_size_hw, frame.input_size_hw, strict=True)
    )
    labels = scene.subparts[rows, columns]
    return np.where(labels < 0, len(scene.part), labels)


def _waves(frame: Frame, generator: np.random.Generator) -> NDArray[np.float32]:
    """(2, 4 H', 4 W') smooth displacements (row, column), each of mean 0 and standard deviation 1."""
    rows, columns = (-(-side // _TOKENS_PER_WAVE) + 1 for side in frame.token_size_hw)
    coarse = torch.from_numpy(generator.standard_normal((1, 2, rows, columns)).astype(np.float32))
    size = [DECODER_STRIDE * side for side in frame.canvas_size_hw]
    smooth = F.interpolate(coarse, size, mode="bicubic", align_corners=True)[0].numpy()
    deviation = smooth.std(axis=(1, 2), keepdims=True)
    return np.asarray((smooth - smooth.mean(axis=(1, 2), keepdims=True)) / np.maximum(deviation, 1e-6))


def _blocks(labels: IntArray) -> IntArray:
    """(4 H', 4 W') → (H' W', 16) network pixels of each decoder pixel."""
    height, width = (side // DECODER_STRIDE for side in labels.shape)
    blocks = labels.reshape(height, DECODER_STRIDE, width, DECODER_STRIDE).swapaxes(1, 2)
    return blocks.reshape(height * width, SAMPLES)


def _mixed(blocks: IntArray, nothing: int) -> tuple[IntArray, IntArray, IntArray]:
    """Decoder pixel, sub-part and count for each sub-part in decoder pixels with several labels."""
    cells = np.flatnonzero((blocks != blocks[:, :1]).any(axis=1))
    keys, counts = np.unique(cells[:, None] * (nothing + 1) + blocks[cells], return_counts=True)
    some = keys % (nothing + 1) < nothing
    keys, counts = keys[some], counts[some]
    return keys // (nothing + 1), keys % (nothing + 1), counts


def _borders(labels: IntArray, nothing: int) -> NDArray[np.float64]:
    """(S, S) length of the common border of each two sub-parts, in decoder pixels."""
    borders = np.zeros((nothing + 1, nothing + 1))
    for first, second in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        differ = first != second
        np.add.at(borders, (first[differ], second[differ]), 1 / DECODER_STRIDE)
    return (borders + borders.T)[:nothing, :nothing]


def _summed(values: NDArray[np.floating], group: IntArray) -> NDArray[np.float32]:
    """(S, N) rows summed by group: (O, N)."""
    member = np.eye(int(group.max(initial=-1)) + 1)[group]
    return np.asarray(member.T @ values, dtype=np.float32)


def _over_weak_edges(borders: NDArray[np.float64], scene: Scene) -> NDArray[np.float64]:
    """(S, S) borders weighted by the similarity of the mean colours on both sides, from 1 for equal to nearly 0."""
    inside = scene.subparts >= 0
    labels, count = scene.subparts[inside], len(scene.part)
    sums = [np.bincount(labels, channel, count) for channel in scene.image[inside].T]
    colours = np.stack(sums, axis=1) / np.maximum(np.bincount(labels, minlength=count), 1)[:, None]
    first, second = np.nonzero(borders)
    weighed = np.zeros_like(borders)
    difference = np.linalg.norm(colours[first] - colours[second], axis=1)
    weighed[first, second] = borders[first, second] * np.exp(-difference / _WEAK_EDGE)
    return weighed


def _flaws(
    owner: IntArray, object_border: NDArray[np.float32], weak: NDArray[np.float64], area: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """`leak`, `hole` and `island` of `SceneCells`, from weighted borders (S, S) and areas of sub-parts."""
    own = np.arange(len(object_border))[:, None] == owner
    small = area <= _SMALL_PIECE * _summed(area[:, None], owner)
    apart = object_border[:, owner] == 0
    leak = np.where(own, 0, _summed(weak, owner))
    return leak, (own & small).astype(np.float32), (~own & small & apart).astype(np.float32)


def _vectors(
    part: IntArray, owner: IntArray, appearance: float, feature_dim: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """(S + 1, C) unit vectors: the object's direction, with share `appearance` of the square from the sub-part's."""
    objects = generator.standard_normal((int(owner.max(initial=-1)) + 1, feature_dim))
    own = generator.standard_normal((len(part) - 1, feature_dim))
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    objects /= np.linalg.norm(objects, axis=1, keepdims=True)
    vectors = np.zeros((len(part), feature_dim), dtype=np.float32)
    vectors[:-1] = np.sqrt(1 - appearance) * objects[owner[:-1]] + np.sqrt(appearance) * own
    return vectors


def _tokens(labels: IntArray, frame: Frame, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, T, U) mean vector under each image token; beyond the canvas its edge is repeated."""
    rows, columns = frame.token_size_hw
    side = frame.patch_size
    margins = [(0, count * side - have) for count, have in zip((rows, columns), labels.shape, strict=True)]
    blocks = np.pad(labels, margins, mode="edge").reshape(rows, side, columns, side).swapaxes(1, 2)
    tokens = np.arange(rows * columns).repeat(side * side)
    pairs, counts = np.unique(tokens * len(vectors) + blocks.ravel(), return_counts=True)
    mean = np.zeros((rows * columns, vectors.shape[1]), dtype=np.float32)
    np.add.at(mean, pairs // len(vectors), vectors[pairs % len(vectors)] * (counts / side**2)[:, None])
    return np.asarray(mean.T.reshape(-1, rows, columns), dtype=np.float32)
