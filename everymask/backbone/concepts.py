"""What a backbone is that finds concepts: every object of an image that a name describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from everymask.backbone.protocol import ImageEmbedding

MAX_NAME_TOKENS = 32
"""What SAM 3 reads of a name, with the two marks around it."""
EXAMPLES_ALONE = "visual"
"""The phrase that SAM 3's publisher asks with where boxes are examples and there is no name."""


@dataclass(frozen=True)
class ConceptMasks:
    """What a name found in an image, K masks.

    Attributes:
        logits: (K, P) float32 on the image's canvas, > 0 inside.
        scores: (K,) float32 in [0, 1], the model's confidence times `presence`; each at least what was asked for.
        presence: how sure the model is that the image shows the name at all, [0, 1].
        left_out: sum of the scores that were lower.
    """

    logits: torch.Tensor
    scores: torch.Tensor
    presence: float
    left_out: float


@dataclass(frozen=True)
class ConceptView:
    """An image as names are answered from it.

    Attributes:
        embedding: the image's.
        features: the backbone's own tensors by name, worked out once for all names.
    """

    embedding: ImageEmbedding
    features: Mapping[str, torch.Tensor]


@runtime_checkable
class FindsConcepts(Protocol):
    """A backbone that answers names, too. Its embeddings hold what names need only after it was told to keep that."""

    def keep_for_concepts(self) -> None:
        """From now on embeddings hold what names are answered from."""
        ...

    def load_concepts(self) -> None:
        """Read what answers names, and `keep_for_concepts`. A second call does nothing.

        Raises:
            CheckpointError: the weights lack it, or the vocabulary is missing.
        """
        ...

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse names that the model cannot read, before any image is opened.

        Raises:
            ConfigurationError: one has more tokens than the model takes.
        """
        ...

    def view_for_concepts(self, embedding: ImageEmbedding) -> ConceptView:
        """What all names share, of an embedding made after `keep_for_concepts`."""
        ...

    def find_concepts(self, view: ConceptView, names: Sequence[str], least_score: float) -> list[ConceptMasks]:
        """What each of N names finds. The answer to a name does not depend on the others; memory grows with N.

        Args:
            view: of an image.
            names: phrases, after `check_names`.
            least_score: masks of a lower score are only counted.

        Raises:
            ModelOutputError: an answer holds NaN or infinity.
        """
        ...

    def find_alike(
        self, view: ConceptView, boxes_xyxy: torch.Tensor, shown: torch.Tensor, name: str, least_score: float
    ) -> ConceptMasks:
        """What a name with examples finds: boxes around objects that are meant, and around others that are not.

        Args:
            view: of an image.
            boxes_xyxy: (K, 4) float in original pixels, at least one.
            shown: (K,) bool, whether a box's object is meant.
            name: a phrase, after `check_names`; `EXAMPLES_ALONE` where there is none.
            least_score: as in `find_concepts`, which also says what is raised.
        """
        ...
