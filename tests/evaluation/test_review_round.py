"""The table that a simulated round of review writes."""

from __future__ import annotations

from benchmarks.review_round import table


def one_round(before: float, queue: float) -> dict[str, list[float]]:
    """Figures of which the first is of all images and the other three of drawn sets."""
    figures = {"hits_queue": [0.5], "hits_control": [0.25]}
    for name in ("miou", "map50", "map50_all"):
        figures[f"{name}_before"] = [before, before, before, before]
        figures[f"{name}_queue"] = [queue, queue - 0.1, queue, queue + 0.1]
        figures[f"{name}_control"] = [before, before, before, before]
    return figures


def test_a_gain_is_paired_over_the_seeds_with_its_interval_over_the_images() -> None:
    rows = table([one_round(0.2, 0.3), one_round(0.3, 0.5)])
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
    assert table([one_round(0.2, 0.3)])["mIoU"]["before"] == "20.0"
