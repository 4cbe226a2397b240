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
from everymask.errors import ConfigurationError
from everymask.evaluation import ablation
from everymask.evaluation.ablation import ablation_rows, label_rows, table_rows
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


BASELINES = ["AMG, overlaps resolved", "AMG, overlaps kept", "object level"]


def changed(settings: EntityConfig | AmgConfig) -> dict[str, object]:
    """What a row sets otherwise than the defaults do."""
    default = type(settings)()
    return {name: value for name, value in vars(settings).items() if value != getattr(default, name)}


@pytest.mark.parametrize("table", [1, 2])
def test_the_first_tables_hold_esam_against_the_baselines(table: int) -> None:
    rows = table_rows(table, ENTITIES, AMG)
    assert [row.name for row in rows] == [*BASELINES, "E-SAM"]
    assert [row.settings for row in rows] == [AMG, AMG, ENTITIES, ENTITIES]
    assert [row.overlaps for row in rows] == [False, True, False, False]


def test_the_third_table_is_the_ablation() -> None:
    assert table_rows(3, ENTITIES, AMG) == ablation_rows(ENTITIES, AMG)
    assert [row.name for row in table_rows(3, ENTITIES, AMG)][:3] == BASELINES


def test_the_fourth_table_varies_one_threshold_at_a_time_with_the_modules_of_the_paper() -> None:
    rows = {row.name: changed(row.settings) for row in table_rows(4, EntityConfig(), AmgConfig())}
    mmg, with_emr = {"emr": False, "usr": False}, {"usr": False}
    default = {name: getattr(EntityConfig(), name) for name in vars(EntityConfig())}
    expected = {
        **{f"θ_O {value}": {"object_nms_thresh": value, **mmg} for value in (0.7, 0.75, 0.8, 0.9)},
        **{f"γ_O {value:g}": {"best_match_thresh": value, **mmg} for value in (0.3, 0.9, 0.6, 1.0)},
        **{f"δ {value}": {"overlap_thresh": value, **with_emr} for value in (0.01, 0.05, 0.1, 0.2)},
        **{f"τ {value:g}": {"guidance_tolerance": value, **with_emr} for value in (0.0, 0.05, 0.1, 0.2)},
        **{f"ρ {value:g}": {"union_thresh": value} for value in (0.0, 0.1, 0.3, 0.5)},
        **{
            f"{sparse}/{dense} points": {"points_per_side": sparse, "gallery_points_per_side": dense}
            for sparse, dense in ((16, 16), (16, 32), (16, 64), (32, 64))
        },
    }
    # What is set to its default is no change.
    assert rows == {
        name: {option: value for option, value in settings.items() if value != default[option]}
        for name, settings in expected.items()
    }
    assert [row.method for row in table_rows(4, EntityConfig(), AmgConfig())] == ["entities"] * 24
    with pytest.raises(ConfigurationError, match="there are tables 1 to 4 of entities; got 5"):
        table_rows(5, EntityConfig(), AmgConfig())
