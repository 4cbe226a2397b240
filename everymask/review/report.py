"""Was the queue worth it? How much people changed in it, compared with the images drawn at random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from everymask.labels.corrections import ImageCorrection
from everymask.review.queue import Chosen, Queue


@dataclass(frozen=True)
class Effort:
    """What people did to one part of a queue.

    Attributes:
        images: images in that part.
        reviewed: those that a person finished.
        changed: finished images that differ from the model's labels.
        masks: the machine's masks in finished images.
        masks_changed: those that were edited, relabelled or deleted.
        added: masks the machine had missed.
        iou_lost: mean 1 - IoU between edited masks and their originals.
    """

    images: int
    reviewed: int
    changed: int
    masks: int
    masks_changed: int
    added: int
    iou_lost: float

    @property
    def hit_rate(self) -> float:
        """Share of finished images that were changed, [0, 1]; 0 without any."""
        return self.changed / self.reviewed if self.reviewed else 0.0


def effort(image_ids: Iterable[str], corrections: Mapping[str, ImageCorrection]) -> Effort:
    """What people did to some images."""
    ids = list(image_ids)
    entries = (corrections[image_id] for image_id in ids if image_id in corrections)
    found = [entry for entry in entries if entry.finished]
    masks = [mask for one in found for mask in one.masks]
    edited = [mask.iou for mask in masks if mask.action == "edited" and mask.iou is not None]
    changed = [mask for mask in masks if mask.action in ("edited", "relabelled", "deleted")]
    return Effort(
        images=len(ids),
        reviewed=len(found),
        changed=sum(one.changed for one in found),
        masks=sum(mask.parent_id is not None for mask in masks),
        masks_changed=len(changed),
        added=sum(mask.action == "added" for mask in masks),
        iou_lost=1 - sum(edited) / len(edited) if edited else 0.0,
    )


def queue_report(queue: Queue, corrections: Mapping[str, ImageCorrection]) -> dict[Chosen, Effort]:
    """The effort by how images were chosen."""
    parts: Sequence[Chosen] = ("doubt", "random")
    return {
        part: effort((image.image_id for image in queue.images if image.chosen == part), corrections) for part in parts
    }


def report_lines(efforts: Mapping[Chosen, Effort]) -> list[str]:
    """The report for a terminal, with a legend of its columns."""
    columns = ("images", 8), ("finished", 10), ("changed", 9), ("masks", 8), ("mended", 9), ("added", 7), ("lost", 8)
    lines = [f"{'chosen by':<10}" + "".join(f"{name:>{width}}" for name, width in columns)]
    for part, one in efforts.items():
        lines.append(
            f"{part:<10}{one.images:>8,}{one.reviewed:>10,}{one.hit_rate:>9.1%}{one.masks:>8,}{one.masks_changed:>9,}"
            f"{one.added:>7,}{one.iou_lost:>8.3f}"
        )
    lines += ["", *(f"{name:<10}{text}" for name, text in _MEANING)]
    doubt, control = efforts["doubt"], efforts["random"]
    if not doubt.reviewed or not control.reviewed:
        lines.append("nothing to compare yet: finish images of both kinds")
    elif control.hit_rate:
        times = doubt.hit_rate / control.hit_rate
        lines.append(
            f"an image that doubt chose was changed {times:.2f} times as often as one drawn at random: above 1, the "
            "queue is worth its order"
        )
    else:
        lines.append("no image drawn at random needed a change, so the labels are good, or more of them must be seen")
    return lines


_MEANING = (
    ("doubt", "images in the queue because their labels are doubtful; random: drawn from all, to compare"),
    ("finished", "images of which a person has judged every mask"),
    ("changed", "share of the finished images where anything was not right"),
    ("masks", "the model's masks in finished images; mended: how many were redrawn, renamed or deleted"),
    ("added", "masks that the model had missed"),
    ("lost", "1 - IoU of redrawn masks with what they were, on average: 0 is no pixel"),
)
