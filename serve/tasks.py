"""Messages between parts of the graph: images, tasks and outcomes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Generic, TypeVar

from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.examples import ExamplePrompt
from everymask.errors import EverymaskError
from everymask.labelling.clicks import ClickPrompt
from everymask.records import ImageLabels
from serve.schema import Method
from serve.transport import PackedEmbedding

T = TypeVar("T")

Milliseconds = dict[str, float]
"""Stage of a request → time spent there; see `serve.metrics`."""


@dataclass(frozen=True)
class RequestImage:
    """A request's image: a file, or the id of one sent before.

    Attributes:
        owner: whose key opened the service; see `ApiKeys.owner`.
        image_id: hex sha256 of the file.
        data: the file; None if only the id was sent.
    """

    owner: str
    image_id: str
    data: bytes | None

    @classmethod
    def from_file(cls, owner: str, data: bytes) -> RequestImage:
        """An image sent with the request. Its content determines its id, whatever id the client sent."""
        return cls(owner, hashlib.sha256(data).hexdigest(), data)

    @property
    def key(self) -> str:
        """The cache's key, which keeps owners' images apart."""
        return f"{self.owner}/{self.image_id}"


@dataclass(frozen=True)
class EverythingTask:
    """Masks of everything, by E-SAM or by the plain automatic generator."""

    method: Method


@dataclass(frozen=True)
class ClickTask:
    """Masks of one object that a person points at.

    Attributes:
        prompt: clicks and box, in pixels.
        max_masks: candidates to answer, best first.
        in_shares: whether the prompt is in shares of width and height, [0, 1], instead of pixels.
    """

    prompt: ClickPrompt
    max_masks: int
    in_shares: bool = False

    def prompt_px(self, size_hw: tuple[int, int]) -> ClickPrompt:
        if not self.in_shares:
            return self.prompt
        height, width = size_hw
        # A share of 1 is the border itself, just outside the last pixel.
        points = tuple(
            (x * width if x != 1 else width - 0.5, y * height if y != 1 else height - 0.5)
            for x, y in self.prompt.point_coords
        )
        box = self.prompt.box_xyxy
        scaled = None if box is None else (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
        return ClickPrompt(points, self.prompt.point_labels, scaled)


@dataclass(frozen=True)
class MaskTask:
    """Masks with the features that a class head reads; `crops` says whether it reads crops."""

    crops: bool


@dataclass(frozen=True)
class NamesTask:
    """Masks that names describe (SAM 3) or resemble (SAM + CLIP).

    Attributes:
        names: as they were typed.
        score_thresh: least score of a mask; None: the service's own.
    """

    names: tuple[str, ...]
    score_thresh: float | None


@dataclass(frozen=True)
class AlikeTask:
    """Masks of everything that is like the objects in some boxes of the image (SAM 3).

    Attributes:
        examples: the boxes, in pixels.
        names: at most one, what the objects are called.
        score_thresh: as of `NamesTask`.
    """

    examples: ExamplePrompt
    names: tuple[str, ...]
    score_thresh: float | None


Task = EverythingTask | ClickTask | MaskTask | NamesTask | AlikeTask


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """A part's answer for one image.

    Attributes:
        cached: whether it needed no encoder.
        spent: milliseconds by stage.
    """

    result: T
    cached: bool
    spent: Milliseconds


Embedded = Outcome[PackedEmbedding] | EverymaskError
Refined = Outcome[ImageLabels | MaskEmbeddings] | EverymaskError
Labelled = Outcome[ImageLabels] | EverymaskError
"""Replicas return an image's error and do not raise it, because Serve logs raised errors with a traceback."""


@dataclass(frozen=True)
class ModelDescription:
    """The backbone a replica runs."""

    name: str
    weights_sha256: str
    device: str
