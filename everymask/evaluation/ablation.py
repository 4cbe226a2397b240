"""The rows of E-SAM's ablation (table 3), with the automatic masks and SAM's object level (table 2) beside them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.entities.segmenter import segment_entities, segment_objects
from everymask.evaluation.disjoint import resolve_overlaps
from everymask.records import ImageLabels


@dataclass(frozen=True)
class AblationRow:
    """One way to segment entities.

    Attributes:
        name: as printed.
        segment: embedding → disjoint labels.
    """

    name: str
    segment: Callable[[PromptableBackbone, ImageEmbedding], ImageLabels]


def ablation_rows(entities: EntityConfig, amg: AmgConfig) -> list[AblationRow]:
    """AMG with its overlaps resolved by score, SAM's object level, and the eight settings of the three modules."""

    def automatic(backbone: PromptableBackbone, embedding: ImageEmbedding) -> ImageLabels:
        return resolve_overlaps(segment_amg(backbone, embedding, amg))

    def objects(backbone: PromptableBackbone, embedding: ImageEmbedding) -> ImageLabels:
        return segment_objects(backbone, embedding, entities)

    return [
        AblationRow("AMG", automatic),
        AblationRow("object level", objects),
        *(_modules(replace(entities, mmg=m, emr=e, usr=u)) for m, e, u in itertools.product([False, True], repeat=3)),
    ]


def _modules(config: EntityConfig) -> AblationRow:
    used = [name for name, on in (("MMG", config.mmg), ("EMR", config.emr), ("USR", config.usr)) if on]

    def segment(backbone: PromptableBackbone, embedding: ImageEmbedding) -> ImageLabels:
        return segment_entities(backbone, embedding, config)

    return AblationRow(" + ".join(used) or "no module", segment)
