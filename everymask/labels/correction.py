"""Records of a person's correction of one image."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Literal

from everymask.records import Member, Rle

Action = Literal["confirmed", "edited", "relabelled", "deleted", "added", "kept"]
ACTIONS: tuple[Action, ...] = ("confirmed", "edited", "relabelled", "deleted", "added")
"""What a person may do with a mask; `kept` is for masks that nobody has judged."""

CARRIED = "update"
"""The tool of an entry that carries a person's work over to labels that were made anew."""

Outline = Literal["box", "ellipse"]
"""Shapes drawn that do not outline an object."""
OUTLINES: tuple[Outline, ...] = ("box", "ellipse")


def new_entry_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True)
class CorrectedMask:
    """The outcome of one mask.

    Attributes:
        action: confirmed (unchanged), edited (another outline, perhaps another class), relabelled (another class),
            deleted, added, or kept (nobody has judged it).
        mask_id: 24 hexadecimal digits; the parent's if the outline did not change.
        parent_id: the machine's mask; None for an added one.
        rle: the mask; for a deleted one, what it was.
        class_id: index into the class list, None for entities.
        class_name: None for entities.
        iou: with the parent, [0, 1]; None for an added one.
        drawn_as: the shape drawn instead of an outline; None for masks and polygons.
    """

    action: Action
    mask_id: str
    parent_id: str | None
    rle: Rle
    class_id: int | None
    class_name: str | None
    iou: float | None
    drawn_as: Outline | None = None


@dataclass(frozen=True)
class ImageCorrection:
    """A log entry: a person's verdict on all masks of one image. No masks left is a verdict too.

    Attributes:
        content_sha256: digest of the labelled image.
        size_hw: (height, width) in pixels.
        tool: the format it came back in, or the program it was made with.
        annotator: as the tool says.
        corrected_at: as the tool says, ISO 8601.
        imported_at: when it was kept: UTC, ISO 8601.
        masks: deleted ones included.
        entry_id: 32 hexadecimal digits, unique.
        bases: ids of the entries it was made from; empty if that was the model's labels.
        undoes: id of the entry that it takes back.
        uri: where the image was.
        member: where in that file.
    """

    image_id: str
    content_sha256: str | None
    size_hw: tuple[int, int]
    tool: str
    annotator: str | None
    corrected_at: str | None
    imported_at: str
    masks: tuple[CorrectedMask, ...]
    entry_id: str = field(default_factory=new_entry_id)
    bases: tuple[str, ...] = ()
    undoes: str | None = None
    uri: str | None = None
    member: Member | None = None

    def count(self, action: Action) -> int:
        """Number of masks with this action."""
        return sum(mask.action == action for mask in self.masks)

    @property
    def changed(self) -> bool:
        """Whether anything differs from the model's labels."""
        return any(mask.action not in ("confirmed", "kept") for mask in self.masks)

    @property
    def finished(self) -> bool:
        """Whether a person has judged every mask."""
        return not any(mask.action == "kept" for mask in self.masks)
