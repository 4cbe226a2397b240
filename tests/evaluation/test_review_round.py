"""The table that a simulated round of review writes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import review_round
from benchmarks.class_material import Material
from benchmarks.review_round import RoundConfig, Truths, one_round, table
from everymask.classes.embeddings import StoredEmbeddings
from everymask.classes.taxonomy import Taxonomy
from tests.classes.toy import COLOURS, ColourBackbone, colour_head
from tests.evaluation.squares import between, described_by, square, truth_of


def figures_of(before: float, queue: float) -> dict[str, list[float]]:
    """Figures of which the first is of all images and the other three of drawn sets."""
    figures = {"hits_queue": [0.5], "hits_control": [0.25]}
    for name in ("miou", "map50", "map50_all"):
        figures[f"{name}_before"] = [before, before, before, before]
        figures[f"{name}_queue"] = [queue, queue - 0.1, queue, queue + 0.1]
        figures[f"{name}_control"] = [before, before, before, before]
    return figures


def test_a_gain_is_paired_over_the_seeds_with_its_interval_over_the_images() -> None:
    rows = table([figures_of(0.2, 0.3), figures_of(0.3, 0.5)])
    assert list(rows) == ["hits", "mIoU", "mAP50", "mAP50 without a threshold"]
    assert rows["hits"] == {
        "queue": "50.0 ± 0.0",
        "random": "25.0 ± 0.0",
        "before": "-",
        "queue-gain": "-",
        "random-gain": "-",
    }
    assert rows["mAP50"]["queue"] == "40.0 ± 14.1"
    assert rows["mAP50"]["queue-gain"] == "+15.0 (+5.5 to +24.5)"
    assert rows["mAP50"]["random-gain"] == "+0.0 (+0.0 to +0.0)"


def test_one_seed_has_no_deviation() -> None:
    assert table([figures_of(0.2, 0.3)])["mIoU"]["before"] == "20.0"


def test_a_round_measures_the_head_before_and_after_corrections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, the head sees no colours and is sure of nothing; after any corrections, it knows both classes."""
    grey = (128, 128, 128)
    masks = described_by([between(COLOURS["cherry"], grey, 0.0), between(COLOURS["lime"], grey, 0.0)])
    both = truth_of({0: (square(0), 0), 1: (square(1), 1)})
    knows, colour_blind = colour_head(), colour_head(0.0)

    def trained(*args: Any, corrections: object) -> SimpleNamespace:
        return SimpleNamespace(head=colour_blind if corrections is None else knows)

    monkeypatch.setattr(review_round, "train_head", trained)
    monkeypatch.setattr(review_round, "head_spec", lambda *args: None)
    monkeypatch.setattr(review_round, "learn", lambda names, *rest: names)
    images = {name: StoredEmbeddings(name, name, "", masks) for name in "abcdef"}
    truths = Truths(dict.fromkeys("abc", both), dict.fromkeys("def", both))
    taxonomy = Taxonomy((("cherry", "cherry"), ("lime", "lime")))
    config = RoundConfig(Path(), Path(), corrected=2, bootstrap=5)
    bags: Any = None
    found = one_round(0, Material(ColourBackbone(), [], [], images), bags, truths, taxonomy, config)
    assert set(found) == {
        *(f"hits_{kind}" for kind in ("queue", "control")),
        *(f"{name}_{kind}" for name in ("miou", "map50", "map50_all") for kind in ("before", "queue", "control")),
    }
    assert found["map50_before"] == [0.0] * 6
    assert found["map50_queue"] == found["map50_control"] == pytest.approx([1.0] * 6)
