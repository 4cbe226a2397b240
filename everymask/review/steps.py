"""A person's single steps on an image, as entries of the log of corrections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from everymask.errors import InputError
from everymask.formats.class_names import ENTITY_CLASS
from everymask.labels.correction import CorrectedMask, ImageCorrection
from everymask.labels.correction_history import on_top, untouched
from everymask.labels.corrections import is_stale
from everymask.labels.rows import ImageRow
from everymask.masks.rle import rle_areas
from everymask.records import LabelledMask, Rle
from everymask.review.matching import new_mask
from everymask.review.reviewed import ReviewedMask

Action = Literal["confirm", "delete", "restore", "rename", "add", "take"]
STEP_ACTIONS: tuple[Action, ...] = ("confirm", "delete", "restore", "rename", "add", "take")
TOOL = "browse"


@dataclass(frozen=True)
class Step:
    """A person's change to masks of one image.

    Attributes:
        action: confirm unjudged masks; delete; restore deleted ones unchanged; rename; add one; take all from another
            entry.
        mask_ids: the masks concerned; None means all, for `confirm`.
        class_name: the new class of `rename` and `add`; None for entities.
        rle: the mask to add.
        entry_id: the entry whose masks to take.
    """

    action: Action
    mask_ids: tuple[str, ...] | None = ()
    class_name: str | None = None
    rle: Rle | None = None
    entry_id: str | None = None


def shown_masks(image: ImageRow, heads: Sequence[ImageCorrection]) -> tuple[CorrectedMask, ...]:
    """An image's masks as shown to a person, deleted ones included.

    `heads` are the log entries that no other is based on; the last one counts.

    Raises:
        InputError: the image has an error in place of labels, and nobody has corrected it.
    """
    if heads and not is_stale(heads[-1], image.content_sha256):
        return heads[-1].masks
    if image.labels is None:
        raise InputError(f"{image.image_id} has an error in place of labels; label it again before correcting it")
    return untouched(image)


def entry_of(
    image: ImageRow,
    heads: Sequence[ImageCorrection],
    steps: Sequence[Step],
    classes: Mapping[str, int],
    annotator: str | None,
    now: str,
) -> ImageCorrection | None:
    """The entry made by some steps on top of what was shown; None if they change nothing.

    Args:
        heads: the entries that the person saw, as in `shown_masks`.
        steps: in order.
        classes: class ids by name.
        now: UTC, ISO 8601.

    Raises:
        InputError: a step names a mask or class that does not exist, or does not fit the image.
    """
    before = shown_masks(image, heads)
    masks = before
    for step in steps:
        masks = _after(image, masks, heads, step, classes)
    if masks == before and (masks or heads):
        return None
    size_hw = image.labels.size_hw if image.labels else heads[-1].size_hw
    made = ImageCorrection(
        image_id=image.image_id,
        content_sha256=image.content_sha256,
        size_hw=size_hw,
        tool=TOOL,
        annotator=annotator,
        corrected_at=now,
        imported_at=now,
        masks=masks,
        uri=image.uri,
        member=image.member,
    )
    return on_top(made, heads)


def _after(
    image: ImageRow,
    masks: tuple[CorrectedMask, ...],
    heads: Sequence[ImageCorrection],
    step: Step,
    classes: Mapping[str, int],
) -> tuple[CorrectedMask, ...]:
    if step.action == "take":
        taken = next((entry for entry in heads if entry.entry_id == step.entry_id), None)
        if taken is None:
            raise InputError(f"{image.image_id} has no correction {step.entry_id}; look at it again")
        return taken.masks
    if step.action == "add":
        return (*masks, _added(image, masks, step, classes))
    unjudged = (mask.mask_id for mask in masks if mask.action == "kept")
    wanted = set(unjudged if step.mask_ids is None else step.mask_ids)
    if missing := wanted - {mask.mask_id for mask in masks}:
        raise InputError(f"{image.image_id} has no mask {min(missing)}; look at it again, it may have changed")
    machine = {mask.mask_id: mask for mask in (image.labels.masks if image.labels else ())}
    changed = (
        _changed(mask, machine.get(mask.parent_id), step, classes) if mask.mask_id in wanted else mask for mask in masks
    )
    return tuple(mask for mask in changed if mask is not None)


def _changed(
    mask: CorrectedMask, parent: LabelledMask | None, step: Step, classes: Mapping[str, int]
) -> CorrectedMask | None:
    """The mask after a step; None once a mask that only a person had added is deleted."""
    match step.action:
        case "confirm":
            return replace(mask, action="confirmed") if mask.action == "kept" else mask
        case "delete":
            return replace(mask, action="deleted") if mask.parent_id is not None else None
        case "restore":
            return replace(mask, action=_judged(mask, parent)) if mask.action == "deleted" else mask
        case _:
            if mask.action == "deleted":
                raise InputError("a deleted mask has no name to change; restore it first")
            class_id, name = _class_of(step, classes)
            renamed = replace(mask, class_id=class_id, class_name=name)
            return replace(renamed, action=_judged(renamed, parent))


def _judged(mask: CorrectedMask, parent: LabelledMask | None) -> Literal["confirmed", "edited", "relabelled", "added"]:
    """The action that records a person's approval of a mask as it is."""
    if mask.parent_id is None:
        return "added"
    if parent is None or mask.rle["counts"] != parent.rle["counts"]:
        return "edited"
    return "confirmed" if mask.class_id == parent.class_id else "relabelled"


def _added(image: ImageRow, masks: Sequence[CorrectedMask], step: Step, classes: Mapping[str, int]) -> CorrectedMask:
    assert step.rle is not None
    size_hw = masks[0].rle["size"] if masks else list(image.labels.size_hw) if image.labels else step.rle["size"]
    if step.rle["size"] != size_hw:
        raise InputError(f"the mask to add is {step.rle['size']} and its image {size_hw}, another size")
    if rle_areas([step.rle])[0] == 0:
        raise InputError("the mask to add is empty; click on an object")
    class_id, name = _class_of(step, classes)
    made = new_mask(image, ReviewedMask(step.rle, name or ENTITY_CLASS, None), "added", None, class_id, None)
    if any(mask.mask_id == made.mask_id for mask in masks):
        raise InputError(f"{image.image_id} has this mask already")
    return made


def _class_of(step: Step, classes: Mapping[str, int]) -> tuple[int | None, str | None]:
    if step.class_name is None and not classes:
        return None, None
    if step.class_name is None or step.class_name not in classes:
        known = ", ".join(sorted(classes)) or "none: its masks are entities"
        raise InputError(f"the class {step.class_name!r} is none of the store's ({known})")
    return classes[step.class_name], step.class_name
