"""What the report of a queue says."""

from __future__ import annotations

from dataclasses import replace

from everymask.labels.correction import CorrectedMask, ImageCorrection
from everymask.review.queue import Queue, QueuedImage
from everymask.review.report import queue_report, report_lines
from tests.labels.examples import labels

CHOSEN = {"a": "doubt", "b": "doubt", "c": "random", "d": "random"}
QUEUE = Queue(
    tuple(QueuedImage(name, chosen, 0.5, 0.5, 0.5, 0.5, 2) for name, chosen in CHOSEN.items()),  # type: ignore[arg-type]
    candidates=9,
    seed=0,
)


def correction(name: str, *actions: str) -> ImageCorrection:
    masks = [
        CorrectedMask(action, str(mask.mask_id), mask.mask_id, mask.rle, None, None, 0.75)  # type: ignore[arg-type]
        for action, mask in zip(actions, labels().masks, strict=True)
    ]
    return ImageCorrection(name, None, (40, 60), "browse", "ada", None, "2026", tuple(masks))


def test_only_finished_images_count() -> None:
    found = {
        "a": correction("a", "edited", "confirmed"),
        "b": correction("b", "deleted", "kept"),
        "c": correction("c", "confirmed", "confirmed"),
        "d": replace(correction("d", "deleted", "deleted"), image_id="d"),
    }
    efforts = queue_report(QUEUE, found)
    doubt = efforts["doubt"]
    assert (doubt.images, doubt.reviewed, doubt.changed, doubt.masks, doubt.masks_changed) == (2, 1, 1, 2, 1)
    assert (doubt.hit_rate, doubt.iou_lost, efforts["random"].hit_rate) == (1.0, 0.25, 0.5)
    lines = report_lines(efforts)
    assert lines[1].split() == ["doubt", "2", "1", "100.0%", "2", "1", "0", "0.250"]
    assert "2.00 times as often" in lines[-1]
    words = lines[0].split()[2:]
    explained = " ".join(lines[3:])
    assert [word for word in words if word not in explained] == []


def test_a_comparison_without_figures_says_what_is_missing() -> None:
    assert "finish images of both kinds" in report_lines(queue_report(QUEUE, {}))[-1]
    right = {name: correction(name, "confirmed", "confirmed") for name in "abcd"}
    assert "no image drawn at random needed a change" in report_lines(queue_report(QUEUE, right))[-1]
