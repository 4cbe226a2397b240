"""The rows of E-SAM's tables: AMG, SAM's object level, E-SAM's modules on and off, and its thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone, PromptMasks
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.entities.segmenter import segment_entities, segment_objects
from everymask.errors import ConfigurationError
from everymask.evaluation.disjoint import resolve_overlaps
from everymask.records import ImageLabels

_MMG = {"mmg": True, "emr": False, "usr": False}
_MMG_EMR = {"mmg": True, "emr": True, "usr": False}
_ALL: dict[str, Any] = {"mmg": True, "emr": True, "usr": True}
_THRESHOLDS: dict[str, tuple[str, dict[str, Any], tuple[float, ...]]] = {
    "θ_O": ("object_nms_thresh", _MMG, (0.7, 0.75, 0.8, 0.9)),
    "γ_O": ("best_match_thresh", _MMG, (0.3, 0.9, 0.6, 1.0)),
    "δ": ("overlap_thresh", _MMG_EMR, (0.01, 0.05, 0.1, 0.2)),
    "τ": ("guidance_tolerance", _MMG_EMR, (0.0, 0.05, 0.1, 0.2)),
    "ρ": ("union_thresh", _ALL, (0.0, 0.1, 0.3, 0.5)),
}
"""Table 4: symbol → option, the modules it was varied with, values. θ_O and γ_O were chosen with MMG, δ and τ with MMG
and EMR, ρ and the prompts with all of E-SAM (section 4.3.1)."""
_REMEMBERED_BYTES = 2**30
"""At SAM's sizes, 1,024 clicks take 600 MB."""
_POINTS = ((16, 16), (16, 32), (16, 64), (32, 64))


@dataclass(frozen=True)
class AblationRow:
    """One way to segment. Picklable; equal ways compare equal.

    Attributes:
        name: as printed.
        method: AMG with overlaps kept or resolved by score, SAM's object level, or E-SAM.
    """

    name: str
    method: Literal["amg", "amg_resolved", "objects", "entities"]
    settings: AmgConfig | EntityConfig

    @property
    def overlaps(self) -> bool:
        return self.method == "amg"


def label_rows(
    backbone: PromptableBackbone, embedding: ImageEmbedding, rows: Sequence[AblationRow]
) -> dict[str, ImageLabels]:
    """One image's labels by row name; what rows share is computed once.

    Up to `_REMEMBERED_BYTES` of the backbone's answers are cached.
    """
    remembering = cast(PromptableBackbone, _Remembering(backbone))
    known: dict[object, ImageLabels] = {}
    labels = {}
    for row in rows:
        kind = "amg" if row.method.startswith("amg") else row.method
        if (kind, row.settings) not in known:
            known[kind, row.settings] = _segment(remembering, embedding, kind, row.settings)
        found = known[kind, row.settings]
        labels[row.name] = resolve_overlaps(found) if row.method == "amg_resolved" else found
    return labels


class _Remembering:
    """A backbone that caches its answers to the clicks of one image."""

    def __init__(self, backbone: PromptableBackbone) -> None:
        self._backbone = backbone
        self._answers: dict[bytes, PromptMasks] = {}
        self._bytes_left = _REMEMBERED_BYTES

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        batch = point_coords.cpu().numpy().tobytes()
        if batch in self._answers:
            return self._answers[batch]
        answer = self._backbone.decode_points(embedding, point_coords)
        # The grid that proposes masks is asked first, and by every row; of the gallery each row asks other parts.
        if answer.logits.nbytes <= self._bytes_left:
            self._bytes_left -= answer.logits.nbytes
            self._answers[batch] = answer
        return answer

    def decode_sure_points(
        self, embedding: ImageEmbedding, point_coords: torch.Tensor, least_iou: float
    ) -> PromptMasks:
        # Other rows use answers of which the model is less sure.
        return self.decode_points(embedding, point_coords)


def _segment(backbone: PromptableBackbone, embedding: ImageEmbedding, kind: str, settings: Any) -> ImageLabels:
    if kind == "amg":
        return segment_amg(backbone, embedding, settings)
    if kind == "objects":
        return segment_objects(backbone, embedding, settings)
    return segment_entities(backbone, embedding, settings)


def ablation_rows(entities: EntityConfig, amg: AmgConfig) -> list[AblationRow]:
    """AMG twice, SAM's object level, and the eight settings of the three modules."""
    modules = (replace(entities, mmg=m, emr=e, usr=u) for m, e, u in itertools.product([False, True], repeat=3))
    return [
        *_baselines(entities, amg),
        *(AblationRow(_modules(setting), "entities", setting) for setting in modules),
    ]


def table_rows(table: int, entities: EntityConfig, amg: AmgConfig) -> list[AblationRow]:
    """The rows of one of the paper's tables 1 to 4; ConfigurationError for another number.

    Tables 1 and 2 have the same rows, at the dataset's high and low resolution.
    """
    if table in (1, 2):
        return [*_baselines(entities, amg), AblationRow("E-SAM", "entities", entities)]
    if table == 3:
        return ablation_rows(entities, amg)
    if table == 4:
        thresholds = [
            AblationRow(f"{symbol} {value:g}", "entities", replace(entities, **(modules | {option: value})))
            for symbol, (option, modules, values) in _THRESHOLDS.items()
            for value in values
        ]
        points = [
            AblationRow(
                f"{sparse}/{dense} points",
                "entities",
                replace(entities, points_per_side=sparse, gallery_points_per_side=dense, **_ALL),
            )
            for sparse, dense in _POINTS
        ]
        return thresholds + points
    raise ConfigurationError(f"there are tables 1 to 4 of entities; got {table}")


def _baselines(entities: EntityConfig, amg: AmgConfig) -> list[AblationRow]:
    return [
        AblationRow("AMG, overlaps resolved", "amg_resolved", amg),
        AblationRow("AMG, overlaps kept", "amg", amg),
        AblationRow("object level", "objects", entities),
    ]


def _modules(config: EntityConfig) -> str:
    used = [name for name, on in (("MMG", config.mmg), ("EMR", config.emr), ("USR", config.usr)) if on]
    return " + ".join(used) or "no module"
