"""Whether the queue was worth it: how much people changed in it, against the images drawn at random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from everymask.labels.corrections import ImageCorrection
from everymask.review.queue import Chosen, Queue


@dataclass(frozen=True)
class Effort:
    """What people did to one part of a queue.

    Attributes:
        images: how many that part has.
        reviewed: how many of these a person finished.
        changed: how many of these are not as the model left them.
        masks: the machine's masks in reviewed images.
        masks_changed: how many of these were edited, relabelled or deleted.
        added: masks the machine had missed.
        iou_lost: mean 1 - IoU of edited masks with what they were.
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
        """Share of reviewed images that were changed, [0, 1]; 0 without any."""
        return self.changed / self.reviewed if self.reviewed else 0.0


def effort(image_ids: Iterable[str], corrections: Mapping[str, ImageCorrection]) -> Effort:
    """What people did to some images."""
    ids = list(image_ids)
    found = [corrections[image_id] for image_id in ids if image_id in corrections]
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
    """The report for a terminal."""
    columns = ("images", 8), ("reviewed", 10), ("changed", 9), ("masks", 8), ("changed", 9), ("added", 7), ("1-IoU", 8)
    lines = [f"{'chosen by':<10}" + "".join(f"{name:>{width}}" for name, width in columns)]
    for part, one in efforts.items():
        lines.append(
            f"{part:<10}{one.images:>8,}{one.reviewed:>10,}{one.hit_rate:>9.1%}{one.masks:>8,}{one.masks_changed:>9,}"
            f"{one.added:>7,}{one.iou_lost:>8.3f}"
        )
    control = efforts["random"].hit_rate
    if efforts["doubt"].reviewed and control:
        lines.append(f"the queue finds {efforts['doubt'].hit_rate / control:.2f} times what looking at random would")
    return lines
