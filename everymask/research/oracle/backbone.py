"""The oracle behind the backbone protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.protocol import MASKS_PER_PROMPT, ImageEmbedding, PromptMasks
from everymask.backbone.sam.frame import Frame
from everymask.backbone.sam.framed import FramedBackbone
from everymask.errors import ConfigurationError, InputError
from everymask.research.oracle.cells import SAMPLES, SceneCells, scene_cells
from everymask.research.oracle.draws import IntArray, normal, uniform
from everymask.research.oracle.errors import OracleErrors
from everymask.research.oracle.scene import Scene, picture_digest

_IMAGE_SIZE, _PATCH_SIZE, _WIDTH = 1024, 16, 256
"""Side of the network's input, side of an image token, width of a mask token: the same in every official SAM."""

_LOGIT_PER_SAMPLE = 2.5
_HALF = SAMPLES / 2 + 0.5
"""A decoder pixel is inside if more than half of it is; counts are whole, so no logit lies between -1 and 1, and every
mask has stability 1."""

_VARIANT, _ERROR, _NEIGHBOUR, _BEST, _PREFERENCE, _SHARED, _CLICK, _GIANT, _FLAW, _PIECE = range(10)
"""Purposes of random numbers."""

(
    _OBJECT,
    _PART,
    _SUBPART,
    _JOINED_OBJECTS,
    _JOINED_SUBPARTS,
    _EMPTY,
    _OBJECT_AND_PIECE,
    _OBJECT_LESS_PIECE,
    _EVERYTHING,
) = range(9)
"""Kinds of masks."""


@dataclass(frozen=True)
class _Masks:
    """Specifications of N clicks' masks.

    Attributes:
        version: (N, 3) int64 version of the scene.
        kind: (N, 3) int64.
        first: (N, 3) int64, the object, part or sub-part.
        second: (N, 3) int64, what is joined to it or missing from it, -1 for none.
    """

    version: IntArray
    kind: IntArray
    first: IntArray
    second: IntArray


class OracleBackbone(FramedBackbone):
    """Implements `PromptableBackbone`, which gives the shapes, for pictures with known scenes.

    It has the official SAM's frame, canvas and widths. It answers a click with the object, part and sub-part under it,
    with the requested errors; the same click on the same picture always gets the same answer. Unannotated places get
    three empty masks.
    """

    def __init__(
        self, scenes: Iterable[Scene], errors: OracleErrors, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        self._scenes = {picture_digest(scene.image): scene for scene in scenes}
        self._errors = errors
        self._seed = seed
        self._device = torch.device(device)
        self._digest = hashlib.sha256(f"{errors} {seed}".encode()).hexdigest()

    @property
    def name(self) -> str:
        return "oracle"

    @property
    def weights_sha256(self) -> str:
        """Digest of the errors and the seed, in place of weights."""
        return self._digest

    @property
    def token_dim(self) -> int:
        return _WIDTH

    @property
    def feature_dim(self) -> int:
        return _WIDTH

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def precision(self) -> str:
        return "fp32"

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageEmbedding]:
        """Find the scenes of images by their pixels; InputError if an image has none."""
        return [self._embed(image) for image in images]

    def _embed(self, image: NDArray[np.uint8]) -> ImageEmbedding:
        digest = picture_digest(image)
        if digest not in self._scenes:
            raise InputError(
                f"an image of {image.shape[1]} x {image.shape[0]} pixels is not annotated; the oracle answers for the "
                "pictures of its ground truth alone, decoded and not resized"
            )
        frame = Frame((image.shape[0], image.shape[1]), _IMAGE_SIZE, _PATCH_SIZE)
        seed = int(digest[:8], 16) ^ self._seed
        cells = scene_cells(self._scenes[digest], frame, self._errors, _WIDTH, seed)
        canvas_image = frame.canvas_image(frame.resize(image))
        return ImageEmbedding(frame.canvas(), canvas_image, cells.features(), self._digest).to(self._device)

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        frame = self._frame(embedding)
        cells = SceneCells(**{name: tensor.cpu() for name, tensor in embedding.features.items()})
        points = point_coords.cpu()
        height, width = cells.subpart_at.shape
        columns, rows = frame.to_input(points).long().unbind(1)
        subpart = cells.subpart_at[rows.clamp(0, height - 1), columns.clamp(0, width - 1)].numpy()
        patch = self._patches(points, frame)
        masks = self._choose(cells, subpart, patch)

        names = np.stack([masks.version, masks.kind, masks.first, masks.second], axis=2).reshape(-1, 4)
        unique, index = np.unique(names, axis=0, return_inverse=True)
        index = index.reshape(-1, MASKS_PER_PROMPT)
        members = _members(cells, unique)
        counts = torch.zeros(len(unique), cells.pure.shape[1])
        for version in np.unique(unique[:, 0]).tolist():
            rows_of = torch.from_numpy(np.flatnonzero(unique[:, 0] == version))
            counts[rows_of] = cells.counts(version, members[rows_of])
        counts[torch.from_numpy(unique[:, 1] == _EVERYTHING)] = SAMPLES
        logits = _LOGIT_PER_SAMPLE * (counts - _HALF)

        real = self._real_iou(cells, logits > 0, index, subpart)
        giant = torch.from_numpy(masks.kind == _EVERYTHING)
        predicted = self._estimate(real, giant, cells, subpart, patch, points)
        tokens = torch.nn.functional.normalize((members * cells.area) @ cells.vectors, dim=1)
        chosen = torch.from_numpy(index)
        return PromptMasks(
            logits=logits[chosen].to(self._device),
            predicted_iou=predicted.to(self._device),
            tokens=tokens[chosen].to(self._device),
            point_coords=point_coords.to(self._device, torch.float32),
        )

    def decode_clicks(
        self,
        embedding: ImageEmbedding,
        point_coords: torch.Tensor,
        point_labels: torch.Tensor,
        box_xyxy: torch.Tensor | None = None,
    ) -> PromptMasks:
        """Answer the first click on the object, else the middle of the box.

        Masks that contradict another click get a predicted IoU of 0.
        """
        positive = point_coords[point_labels == 1]
        if len(positive):
            origin = positive[:1]
        elif box_xyxy is not None:
            origin = box_xyxy.view(2, 2).float().mean(0)[None]
        else:
            raise ValueError("the prompt points at nothing: give a click on the object, or a box")
        answer = self.decode_points(embedding, origin)
        at = embedding.canvas.cells_at(point_coords.to(self._device))
        agrees = ((answer.logits[0][:, at] > 0) == (point_labels.to(self._device) == 1)).all(dim=1)
        return PromptMasks(answer.logits, answer.predicted_iou * agrees, answer.tokens, answer.point_coords)

    def _frame(self, embedding: ImageEmbedding) -> Frame:
        if embedding.weights_sha256 != self._digest:
            raise ConfigurationError("this embedding was made by an oracle with other errors; embed the image again")
        return Frame(embedding.canvas.original_size_hw, _IMAGE_SIZE, _PATCH_SIZE)

    def _patches(self, points: torch.Tensor, frame: Frame) -> IntArray:
        """(N,) neighbourhood of each point."""
        side = self._errors.neighbourhood * max(frame.original_size_hw)
        column, row = np.floor(points.double().numpy() / side).astype(np.int64).T
        return np.asarray(row * 65536 + column)

    def _choose(self, cells: SceneCells, subpart: IntArray, patch: IntArray) -> _Masks:
        """The masks that answer N clicks."""
        errors, seed = self._errors, int(cells.seed)
        part, owner = cells.part.numpy()[subpart], cells.object.numpy()[subpart]
        first = np.stack([owner, part, subpart], axis=1)
        second = np.full_like(first, -1)
        kind = np.tile([_OBJECT, _PART, _SUBPART], (len(subpart), 1))
        drawn = uniform(seed, _ERROR, patch, owner)
        lost = drawn < errors.lost
        swallow = ~lost & (drawn < errors.lost + errors.swallow)
        stop = ~lost & ~swallow & (drawn < errors.lost + errors.swallow + errors.stop)
        which = uniform(seed, _NEIGHBOUR, patch, owner)

        neighbour = _neighbour(cells.object_border.numpy(), owner, which)
        joined = swallow & (neighbour >= 0)
        kind[joined, 0], second[joined, 0] = _JOINED_OBJECTS, neighbour[joined]

        kind[stop, 0], first[stop, 0] = _PART, part[stop]

        neighbour = _neighbour(cells.subpart_border.numpy(), subpart[lost], which[lost])[:, None]
        kind[lost], first[lost], second[lost] = _JOINED_SUBPARTS, subpart[lost, None], neighbour

        flawed, piece, what = self._flaws(cells, subpart, owner, patch)
        flawed &= ~lost & ~swallow & ~stop
        kind[flawed, 0], second[flawed, 0] = what[flawed], piece[flawed]

        giant = uniform(seed, _GIANT, patch) < errors.giant
        kind[giant, 0], first[giant, 0], second[giant, 0] = _EVERYTHING, 0, -1
        kind[subpart == cells.nothing] = _EMPTY
        version = np.zeros_like(subpart)
        if errors.boundary_variants:
            version = 1 + (errors.boundary_variants * uniform(seed, _VARIANT, patch, owner)).astype(np.int64)
        return _Masks(np.tile(version[:, None], MASKS_PER_PROMPT), kind, first, second)

    def _flaws(
        self, cells: SceneCells, subpart: IntArray, owner: IntArray, patch: IntArray
    ) -> tuple[NDArray[np.bool_], IntArray, IntArray]:
        """Which of N object masks leak, or have a hole or island: whether, the sub-part, and the kind of mask."""
        errors, seed = self._errors, int(cells.seed)
        rates = np.cumsum([errors.leak, errors.hole, errors.island])
        flaw = (uniform(seed, _FLAW, patch, owner)[:, None] >= rates).sum(axis=1)
        which = uniform(seed, _PIECE, patch, owner)
        piece = np.full_like(owner, -1)
        for index, weights in enumerate((cells.leak, cells.hole, cells.island)):
            rows = flaw == index
            piece[rows] = _neighbour(weights.numpy(), owner[rows], which[rows])
        # The click itself is never in the hole.
        what = np.where(flaw == 1, _OBJECT_LESS_PIECE, _OBJECT_AND_PIECE)
        return (piece >= 0) & (piece != subpart), piece, what

    def _real_iou(self, cells: SceneCells, masks: torch.Tensor, index: IntArray, subpart: IntArray) -> torch.Tensor:
        """(N, 3) float32 IoU of each click's masks, rows `index` of `masks`, with what it could have meant."""
        clicked, row = np.unique(subpart, return_inverse=True)
        kinds = [_OBJECT] if self._errors.knows_entities else [_OBJECT, _PART, _SUBPART]
        numbers = {_OBJECT: cells.object.numpy(), _PART: cells.part.numpy(), _SUBPART: np.arange(cells.nothing + 1)}
        best = torch.zeros(index.shape)
        given = masks.float()
        areas = given.sum(1)
        for kind in kinds:
            names = np.zeros((len(clicked), 4), dtype=np.int64)
            names[:, 1], names[:, 2] = np.where(clicked == cells.nothing, _EMPTY, kind), numbers[kind][clicked]
            names[:, 3] = -1
            truth = (cells.counts(0, _members(cells, names)) > _HALF).float()
            inter = given @ truth.T
            iou = inter / (areas[:, None] + truth.sum(1) - inter).clamp_min(1)
            best = torch.maximum(best, iou[torch.from_numpy(index), torch.from_numpy(row)[:, None]])
        return best

    def _estimate(
        self,
        real: torch.Tensor,
        giant: torch.Tensor,
        cells: SceneCells,
        subpart: IntArray,
        patch: IntArray,
        points: torch.Tensor,
    ) -> torch.Tensor:
        """(N, 3) float32 predicted IoU; 0 for clicks on nothing."""
        errors, seed = self._errors, int(cells.seed)
        owner = cells.object.numpy()[subpart][:, None]
        patch, level = patch[:, None], np.arange(MASKS_PER_PROMPT)[None]
        limits = np.cumsum(errors.best_level)[:2]
        best = (uniform(seed, _BEST, patch, owner) >= limits).sum(axis=1, keepdims=True)
        lowered = errors.preference * uniform(seed, _PREFERENCE, patch, owner, level) * (level != best)
        noise = errors.shared_noise * normal(seed, _SHARED, patch, owner, level)
        column, row = points.numpy().astype(np.float32).view(np.int32).astype(np.int64).T
        noise = noise + errors.click_noise * normal(seed, _CLICK, row[:, None], column[:, None], level)
        estimate = 1 - errors.estimate_slope * (1 - real) - torch.from_numpy(lowered).float()
        estimate = torch.where(giant, errors.giant_estimate, estimate) + torch.from_numpy(noise).float()
        return torch.where(torch.from_numpy(subpart[:, None] == cells.nothing), 0, estimate.clamp_min(0))


def _members(cells: SceneCells, names: IntArray) -> torch.Tensor:
    """(M, S + 1) bool: the sub-parts in each of M masks (version, kind, first, second)."""
    numbers = torch.arange(cells.nothing + 1)
    members = torch.zeros(len(names), len(numbers), dtype=torch.bool)
    for kind, owner in (
        (_OBJECT, cells.object),
        (_JOINED_OBJECTS, cells.object),
        (_PART, cells.part),
        (_SUBPART, numbers),
        (_JOINED_SUBPARTS, numbers),
        (_OBJECT_AND_PIECE, cells.object),
        (_OBJECT_LESS_PIECE, cells.object),
    ):
        rows = torch.from_numpy(np.flatnonzero(names[:, 1] == kind))
        first, second = torch.from_numpy(names[rows.numpy(), 2:]).unbind(1)
        other = numbers if kind in (_OBJECT_AND_PIECE, _OBJECT_LESS_PIECE) else owner
        joined = (other[None] == second[:, None]) & (second >= 0)[:, None]
        own = owner[None] == first[:, None]
        members[rows] = own & ~joined if kind == _OBJECT_LESS_PIECE else own | joined
    members[torch.from_numpy(names[:, 1] == _EVERYTHING)] = True
    members[:, cells.nothing] = False
    return members


def _neighbour(borders: NDArray[np.float32], item: IntArray, drawn: NDArray[np.float64]) -> IntArray:
    """(N,) a random neighbour of each item, weighted by the length of their border; -1 if there is none."""
    if not len(borders):
        return np.full_like(item, -1)
    inside = item.clip(0, len(borders) - 1)
    valid = item == inside
    reach = np.cumsum(borders[inside], axis=1, dtype=np.float64)
    total = reach[:, -1]
    chosen = (reach <= (drawn * total)[:, None]).sum(axis=1).clip(0, len(borders) - 1)
    return np.where(valid & (total > 0), chosen, -1)
