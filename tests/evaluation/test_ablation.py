"""The rows of an ablation share the model's answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from everymask.backbone.protocol import ImageEmbedding, PromptMasks
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.entities.segmenter import segment_entities, segment_objects
from everymask.evaluation import ablation
from everymask.evaluation.ablation import ablation_rows, label_rows
from everymask.evaluation.disjoint import resolve_overlaps
from everymask.research.oracle import LIKE_SAM, OracleBackbone, drawn_scene

SCENE = drawn_scene(12, (120, 160))
ENTITIES = EntityConfig(points_per_side=6, gallery_points_per_side=8)
AMG = AmgConfig(points_per_side=6)


class Counting(OracleBackbone):
    """Notes how often it is asked about each batch of clicks."""

    def __init__(self) -> None:
        super().__init__([SCENE], LIKE_SAM)
        self.asked: Counter[bytes] = Counter()

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        self.asked[point_coords.numpy().tobytes()] += 1
        return super().decode_points(embedding, point_coords)


def test_rows_share_answers_and_label_as_they_do_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Counting()
    embedding = backbone.embed([SCENE.image])[0]
    rows = ablation_rows(ENTITIES, AMG)
    labels = label_rows(backbone, embedding, rows)
    assert list(labels) == [row.name for row in rows]
    # AMG is in the table twice, but labels once.
    assert max(backbone.asked.values()) == 1
    for name in ("no module", "USR", "EMR", "EMR + USR", "MMG", "MMG + USR", "MMG + EMR", "MMG + EMR + USR"):
        modules = {module.lower(): module in name.split(" + ") for module in ("MMG", "EMR", "USR")}
        assert labels[name] == segment_entities(backbone, embedding, replace(ENTITIES, **modules)), name
    automatic = segment_amg(backbone, embedding, AMG)
    assert labels["AMG, overlaps kept"] == automatic
    assert labels["AMG, overlaps resolved"] == resolve_overlaps(automatic) != automatic
    assert labels["object level"] == segment_objects(backbone, embedding, ENTITIES)
    of_entities = [labels[row.name] for row in rows if row.method == "entities"]
    assert len({repr(found.masks) for found in of_entities}) > 3, "the modules make a difference"

    monkeypatch.setattr(ablation, "_REMEMBERED_BYTES", 0)
    backbone.asked.clear()
    few = rows[-3:]
    assert label_rows(backbone, embedding, few) == {row.name: labels[row.name] for row in few}
    assert max(backbone.asked.values()) == len(few)
