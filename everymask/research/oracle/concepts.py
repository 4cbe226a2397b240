"""A stand-in for SAM 3's detector of concepts: it answers names from annotations, with the errors it is told to make.

It tells what overlaps, thresholds, queues and exemplars do with answers whose errors are known. It measures these, not
SAM 3: figures made with it say nothing about what SAM 3 itself finds on any picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.concepts import ConceptMasks, ConceptView
from everymask.backbone.protocol import ImageEmbedding
from everymask.backbone.sam.framed import FramedBackbone
from everymask.backbone.sam2.frame import SquashedFrame
from everymask.classes.drawn import canvas_masks
from everymask.errors import ConfigurationError, InputError
from everymask.masks.rle import decode_masks
from everymask.records import Rle
from everymask.research.oracle.draws import normal, uniform
from everymask.research.oracle.scene import picture_digest

_IMAGE_SIZE, _PATCH_SIZE = 1008, 14
"""Those of SAM 3: a canvas of 288 x 288 cells, whatever the picture's shape."""
_LOGIT = 4.0
_LOST, _SURE, _TWICE, _TAKEN, _SHIFT, _PRESENCE = range(6)
"""What a number is drawn for."""


@dataclass(frozen=True)
class NamedScene:
    """A picture and what is in it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        objects: name and mask of each object, at the picture's resolution.
    """

    image: NDArray[np.uint8]
    objects: tuple[tuple[str, Rle], ...]


@dataclass(frozen=True)
class ConceptErrors:
    """Rates are shares of objects; each is drawn for a name and an object alone.

    Attributes:
        lost: share that its name does not find.
        twice: share that its name finds a second time, moved, and a tenth less sure.
        taken: share that another name claims, too.
        shift_px: standard deviation of how far a mask lies off along each side, in cells of the canvas.
        sure: mean confidence in an object of the name.
        unsure: mean confidence in an object of another name.
        noise: standard deviation of both.
        absent: highest presence of a name of which the picture shows nothing; it is drawn below that.
    """

    lost: float = 0.0
    twice: float = 0.0
    taken: float = 0.0
    shift_px: float = 0.0
    sure: float = 0.95
    unsure: float = 0.5
    noise: float = 0.0
    absent: float = 0.0


EXACT_CONCEPTS = ConceptErrors()
"""Every object, by its own name alone."""
CONCEPTS_WITH_ERRORS = ConceptErrors(
    lost=0.1, twice=0.1, taken=0.3, shift_px=1.0, sure=0.85, unsure=0.6, noise=0.1, absent=0.6
)
"""All kinds of errors; every number is our choice."""


class OracleConcepts(FramedBackbone):
    """Implements `FindsConcepts` for pictures whose objects it was given; of `PromptableBackbone` what that needs."""

    def __init__(
        self,
        scenes: Iterable[NamedScene],
        errors: ConceptErrors = EXACT_CONCEPTS,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._scenes = {picture_digest(scene.image): scene for scene in scenes}
        self._errors = errors
        self._seed = seed
        self._device = torch.device(device)
        self._digest = hashlib.sha256(f"{errors} {seed}".encode()).hexdigest()

    @property
    def name(self) -> str:
        return "oracle of concepts"

    @property
    def weights_sha256(self) -> str:
        """Digest of the errors and the seed, which take the place of weights."""
        return self._digest

    @property
    def device(self) -> torch.device:
        return self._device

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageEmbedding]:
        """Find the objects of images by their pixels.

        Raises:
            InputError: an image is not annotated.
        """
        return [self._embed(image) for image in images]

    def keep_for_concepts(self) -> None:
        """Embeddings hold it always."""

    def load_concepts(self) -> None:
        """There is nothing to read."""

    def check_names(self, names: Sequence[str]) -> None:
        """Every name can be read."""

    def view_for_concepts(self, embedding: ImageEmbedding) -> ConceptView:
        self._frame(embedding)
        return ConceptView(embedding, embedding.features)

    def find_concepts(self, view: ConceptView, names: Sequence[str], least_score: float) -> list[ConceptMasks]:
        scene = self._scenes[_digest_of(view)]
        return [self._find(view, scene, name, least_score) for name in names]

    def find_alike(
        self, view: ConceptView, boxes_xyxy: torch.Tensor, shown: torch.Tensor, name: str, least_score: float
    ) -> ConceptMasks:
        raise NotImplementedError("the stand-in is asked by name alone")

    def _embed(self, image: NDArray[np.uint8]) -> ImageEmbedding:
        digest = picture_digest(image)
        if digest not in self._scenes:
            raise InputError(
                f"an image of {image.shape[1]} x {image.shape[0]} pixels is not annotated; the oracle answers for the "
                "pictures of its ground truth alone, decoded and not resized"
            )
        frame = SquashedFrame((image.shape[0], image.shape[1]), _IMAGE_SIZE, _PATCH_SIZE)
        prepared = frame.on_host(image)
        _, canvas_image = frame.to_network(prepared, prepared.pixels)
        canvas = frame.canvas()
        rles = [rle for _, rle in self._scenes[digest].objects]
        cells = canvas_masks(canvas, decode_masks(rles, frame.original_size_hw))
        picture = torch.frombuffer(bytearray.fromhex(digest), dtype=torch.uint8)
        features = {"image": torch.zeros(1, *frame.token_size_hw), "objects": cells, "picture": picture}
        return ImageEmbedding(canvas, canvas_image, features, self._digest).to(self._device)

    def _find(self, view: ConceptView, scene: NamedScene, name: str, least_score: float) -> ConceptMasks:
        errors = self._errors
        cells = view.features["objects"].cpu()
        side = view.embedding.canvas.size_hw[0]
        draws = _Draws(self._seed ^ int(_digest_of(view)[:8], 16), name, len(cells))
        own = np.array([known.casefold() == name.casefold() for known, _ in scene.objects], dtype=bool)
        found = np.where(own, draws.uniform(_LOST) >= errors.lost, draws.uniform(_TAKEN) < errors.taken)
        confidence = np.where(own, errors.sure, errors.unsure) + errors.noise * draws.normal(_SURE)
        presence = 1.0 if own.any() else errors.absent * float(uniform(draws.seed, _PRESENCE, draws.word))
        masks, scores = [], []
        for index in np.flatnonzero(found):
            for repeat in range(1 + bool(own[index] and draws.uniform(_TWICE)[index] < errors.twice)):
                by = [round(errors.shift_px * draws.normal(_SHIFT, axis, repeat)[index]) for axis in (0, 1)]
                masks.append(_moved(cells[index].view(side, side), by).flatten())
                scores.append(float(np.clip(confidence[index] - 0.1 * repeat, 0.01, 0.99)) * presence)
        logits = torch.stack(masks).float().mul(2 * _LOGIT).sub(_LOGIT) if masks else torch.zeros(0, cells.shape[1])
        of = torch.tensor(scores, dtype=torch.float32)
        kept = of >= least_score
        return ConceptMasks(logits[kept].to(self._device), of[kept].to(self._device), presence, float(of[~kept].sum()))

    def _frame(self, embedding: ImageEmbedding) -> SquashedFrame:
        if embedding.weights_sha256 != self._digest:
            raise ConfigurationError("this embedding was made by an oracle with other errors; embed the image again")
        return SquashedFrame(embedding.canvas.original_size_hw, _IMAGE_SIZE, _PATCH_SIZE)


@dataclass(frozen=True)
class _Draws:
    """Numbers for each object of a picture, when it is asked for a name."""

    seed: int
    name: str
    objects: int

    @property
    def word(self) -> int:
        return int(hashlib.sha256(self.name.casefold().encode()).hexdigest()[:8], 16)

    def uniform(self, *what: int) -> NDArray[np.float64]:
        return uniform(self.seed, np.arange(self.objects), self.word, *what)

    def normal(self, *what: int) -> NDArray[np.float64]:
        return normal(self.seed, np.arange(self.objects), self.word, *what)


def _digest_of(view: ConceptView) -> str:
    return bytes(view.embedding.features["picture"].cpu().tolist()).hex()


def _moved(mask: torch.Tensor, by: Sequence[int]) -> torch.Tensor:
    """(S, S) bool, moved down and right by whole cells; what leaves the canvas is gone."""
    moved = torch.zeros_like(mask)
    down, right = by
    height, width = mask.shape
    source = mask[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    top, left = max(0, down), max(0, right)
    moved[top : top + source.shape[0], left : left + source.shape[1]] = source
    return moved
