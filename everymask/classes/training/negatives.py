"""Background from pictures that show none of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from everymask.classes.embeddings import StoredEmbeddings
from everymask.classes.exemplars.folder import folder_pictures
from everymask.classes.exemplars.manifest import Exemplar
from everymask.classes.features import FeatureKind
from everymask.classes.head import ClassHead
from everymask.classes.training.corrections import NamedMasks
from everymask.errors import ConfigurationError

SURE = 0.9
"""A negative is reported if a mask of it has some class at this probability after training."""


@dataclass(frozen=True)
class Suspicion:
    """A negative that looks like a class: its file, the class, and the probability in [0, 1]."""

    file: str
    class_name: str
    probability: float


def negative_pictures(directory: str, exemplars: Sequence[Exemplar]) -> list[Exemplar]:
    """Every picture of a folder and its subfolders, by path.

    Raises:
        ConfigurationError: the folder is missing or empty, or a picture is an exemplar of a class, too.
    """
    class_of = {item.sha256: item.class_name for item in exemplars}
    found = folder_pictures(directory, "--negatives")
    for item in found:
        if item.sha256 in class_of:
            raise ConfigurationError(
                f"the negative {item.origin.url} is an exemplar of {class_of[item.sha256]}, too; take it out of one of "
                "the two folders"
            )
    return found


def negative_masks(records: Sequence[StoredEmbeddings], features: FeatureKind, background: int) -> NamedMasks:
    """All masks of pictures that show none of the classes, as background.

    Args:
        records: these pictures' mask embeddings.
        features: what the head reads.
        background: C, the id of background.
    """
    inputs = torch.cat([record.embeddings.features.inputs(features) for record in records if len(record.embeddings)])
    return NamedMasks(inputs, torch.full((len(inputs),), background))


def suspicious_negatives(head: ClassHead, records: Sequence[StoredEmbeddings]) -> list[Suspicion]:
    """Negatives that a head still takes for a class after training on them as background, the surest first."""
    found = []
    for record in records:
        if len(record.embeddings):
            probability = head.probabilities(record.embeddings.features)[:, :-1]
            best = int(probability.argmax())
            value = float(probability.flatten()[best])
            if value >= SURE:
                name = head.spec.classes[best % len(head.spec.classes)]
                found.append(Suspicion(record.image_id.rpartition("#")[0], name, value))
    return sorted(found, key=lambda item: -item.probability)
