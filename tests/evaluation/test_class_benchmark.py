"""The rows that the measurement of classes writes for the documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import class_head, class_trials, paper_tables
from benchmarks.class_material import Material
from benchmarks.class_trials import OWN, Trial, TrialConfig, over_seeds, summary
from benchmarks.classes import figure_rows
from benchmarks.kept_figures import kept_figures
from benchmarks.tables import made_table
from everymask.classes.config import ClipConfig, MaskConfig
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.train import TrainingConfig
from everymask.evaluation.doubt import DoubtFigures
from everymask.evaluation.figure_files import write_figures
from everymask.evaluation.semantic import ClassFigures, SemanticFigures
from tests.classes.toy import COLOURS, ColourBackbone, colour_head
from tests.evaluation.squares import between, described_by, square, truth_of


def figures(iou: float, ap50: float) -> SemanticFigures:
    """Of a class with enough objects and one with too few, which is half as good."""
    classes = {
        "background": ClassFigures(0.9, None, None, 0),
        "cat": ClassFigures(iou, ap50, ap50, 10),
        "giraffe": ClassFigures(iou / 2, ap50 / 2, ap50 / 2, 9),
    }
    return SemanticFigures((0.9 + 1.5 * iou) / 3, 0.75 * ap50, 0.75 * ap50, classes, 5)


def trial(iou: float) -> Trial:
    doubt = DoubtFigures(0.9, 10, 2, None, 10, 0)
    return Trial({OWN: figures(iou, 0.2), "0.7": figures(iou / 2, 0.1)}, figures(iou, 0.4), doubt)


def test_a_row_has_mean_and_deviation_of_the_seeds_and_the_frequent_classes_alone(tmp_path: Path) -> None:
    found = {"crop": {"training_seconds": [1.0, 1.0], "distilled": summary([trial(0.4), trial(0.6)])}}
    rows = figure_rows(found)
    assert list(rows) == ["`crop`, distilled", "`crop`, distilled, threshold 0.7"]
    row = rows["`crop`, distilled"]
    assert (row["mIoU"], row["mAP50"], row["mAP50-all"]) == ("55.0 ± 7.1", "15.0 ± 0.0", "30.0 ± 0.0")
    assert (row["mIoU-10"], row["mAP50-all-10"]) == ("70.0 ± 7.1", "40.0 ± 0.0")
    assert (row["wrong-name"], row["missed-object"], row["AP50:giraffe"]) == (0.9, "-", "20.0")
    by_threshold = rows["`crop`, distilled, threshold 0.7"]
    assert (by_threshold["mIoU"], by_threshold["mAP50-all"]) == ("42.5 ± 3.5", "30.0 ± 0.0")
    write_figures(tmp_path / "x.json", rows, {"nano": "ab" * 32})
    assert json.loads((tmp_path / "x.json").read_text())["figures"] == rows
    assert "| `crop`, distilled | 55.0 ± 7.1 | 0.90 |" in made_table(tmp_path / "x.json", ["mIoU", "wrong-name"])


class KilledError(BaseException):
    pass


def measured_seeds(monkeypatch: pytest.MonkeyPatch, killed_at: int | None) -> list[int]:
    """Replaces training and measuring, which take long; a list of the seeds for which it was asked."""
    asked: list[int] = []

    def one_seed(material: Material, taxonomy: Taxonomy, training: TrainingConfig, *rest: object) -> dict[str, Any]:
        if training.seed == killed_at:
            raise KilledError
        asked.append(training.seed)
        return {"training_seconds": 1.0, "trials": {"distilled": asdict(trial((0.2, 0.3, 0.4)[training.seed]))}}

    monkeypatch.setattr(class_trials, "_one_seed", one_seed)
    return asked


def test_a_killed_measurement_loses_no_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    material = Material(ColourBackbone(), [], [], {})
    config = TrialConfig(exemplars=tmp_path, ground_truth=tmp_path, work=tmp_path / "work", seeds=3)
    told: list[dict[str, Any]] = []

    def run(tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        return over_seeds(material, Taxonomy((("cat", "cat"), ("giraffe", "giraffe"))), config, "token", tell)

    assert measured_seeds(monkeypatch, killed_at=2) == []
    with pytest.raises(KilledError):
        run(told.append)
    assert [len(found["distilled"]["miou"]["values"]) for found in told] == [1, 2]
    assert figure_rows({"token": told[-1]})["`token`, distilled"]["mIoU-10"] == "57.5 ± 3.5"
    asked = measured_seeds(monkeypatch, killed_at=None)
    whole = run(told.append)
    assert asked == [2]
    assert whole == told[-1]
    assert whole["distilled"] == summary([trial(0.2), trial(0.3), trial(0.4)])


def test_figures_are_kept_for_the_very_same_question_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def measure() -> dict[str, Any]:
        calls.append(len(calls))
        return {"iou": 0.1, "call": calls[-1]}

    assert kept_figures(tmp_path / "kept", {"seed": 0}, measure) == {"iou": 0.1, "call": 0}
    assert kept_figures(tmp_path / "kept", {"seed": 0}, measure) == {"iou": 0.1, "call": 0}
    assert kept_figures(tmp_path / "kept", {"seed": 1}, measure)["call"] == 1
    monkeypatch.setattr("benchmarks.kept_figures._code_sha256", lambda: "other code")
    assert kept_figures(tmp_path / "kept", {"seed": 0}, measure)["call"] == 2


def test_the_papers_tables_have_rows_of_heads_and_of_none(tmp_path: Path) -> None:
    heads = {"training_seconds": [1.0], "mil": summary([trial(0.4)]), "distilled": summary([trial(0.6)])}
    measured = {"token": heads, "token+pooled": heads}
    assert list(paper_tables.head_rows(measured, 2)) == ["U-SAM", "U-SAM, `token+pooled`"]
    rows = paper_tables.head_rows(measured, 4)
    assert list(rows) == ["MIL", "U-SAM", "MIL, `token+pooled`", "U-SAM, `token+pooled`"]
    assert (rows["MIL"]["mIoU"], rows["U-SAM"]["mIoU"]) == ("50.0", "60.0")
    nothing = paper_tables._without_head(figures(0.0, 0.0))
    assert (nothing["mIoU"], nothing["mAP50"], nothing["mAP50-all"]) == ("30.0", "0.0", "-")
    assert "  cat                   IoU   40.0 %  AP50 without a threshold   40.0 %" in paper_tables.lines(rows)


def test_a_head_is_measured_by_each_threshold_and_by_none() -> None:
    """The cherry is sure, the lime is not, and the third square is a lime that is not there, less sure still."""
    grey = (128, 128, 128)
    colours = [between(COLOURS["cherry"], grey, 0.0), between(COLOURS["lime"], grey, 0.3)]
    masks = described_by([*colours, between(COLOURS["lime"], grey, 0.5)])
    head = colour_head(4.0)
    sure, unsure, unsurest = head.probabilities(masks.features)[:, :2].max(dim=1).values.tolist()
    assert sure > unsure > unsurest
    config = class_head.HeadConfig(Path(), thresholds=((sure + unsure) / 2, (unsure + unsurest) / 2), bootstrap=4)
    truth = truth_of({0: (square(0), 0), 1: (square(1), 1)})
    rows = class_head.figure_rows(head, {"a": masks}, {"a": truth}, ("cherry", "lime"), config)
    assert [row["mAP50"] for row in rows.values()] == [
        "50.0 (50.0 to 50.0)",
        "100.0 (100.0 to 100.0)",
        "100.0 (100.0 to 100.0)",
    ]
    assert list(rows)[-1] == "all masks"
    assert [row["images"] for row in rows.values()] == [1, 1, 1]
    assert (rows["all masks"]["objects:lime"], rows["all masks"]["mAP50-10"]) == (1, "-")


def test_clip_looks_at_every_mask_of_the_grid_as_the_papers_recipe_does(tmp_path: Path) -> None:
    clip = ClipConfig(masks=MaskConfig(points_per_side=32, max_masks=5))
    config = paper_tables.TableConfig(exemplars=tmp_path, ground_truth=tmp_path, table=3, clip=clip)
    chosen = paper_tables.clip_config(config, ("cat", "dog"))
    assert chosen.names == ("cat", "dog")
    assert chosen.masks == paper_tables.trial_config(config).classes.masks
    assert (chosen.masks.max_masks, chosen.masks.duplicate_iou_thresh) == (None, 1.0)
