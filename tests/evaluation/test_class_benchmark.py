"""The rows that the measurement of classes writes for the documents."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import class_head, paper_tables
from benchmarks.classes import Trial, _summary, figure_rows
from benchmarks.tables import made_table
from everymask.classes.config import ClipConfig, MaskConfig
from everymask.evaluation.doubt import DoubtFigures
from everymask.evaluation.figure_files import write_figures
from everymask.evaluation.semantic import ClassFigures, SemanticFigures
from tests.classes.toy import COLOURS, colour_head
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
    return Trial({None: figures(iou, 0.2), 0.7: figures(iou / 2, 0.1)}, figures(iou, 0.4), doubt)


def test_a_row_has_mean_and_deviation_of_the_seeds_and_the_frequent_classes_alone(tmp_path: Path) -> None:
    found = {"crop": {"training_seconds": [1.0, 1.0], "distilled": _summary([trial(0.4), trial(0.6)])}}
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
    assert chosen.masks == paper_tables.benchmark_config(config).classes.masks
    assert (chosen.masks.max_masks, chosen.masks.duplicate_iou_thresh) == (None, 1.0)
