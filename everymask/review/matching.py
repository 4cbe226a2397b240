"""Match a person's masks with the masks they were given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from everymask.errors import InputError
from everymask.formats.outlines import coco_polygons
from everymask.labels.corrections import Action, CorrectedMask, ImageCorrection
from everymask.labels.rows import ImageRow
from everymask.masks.checked import fill_polygons
from everymask.masks.rle import rle_ious
from everymask.records import ImageLabels, LabelledMask
from everymask.review.reviewed import ReviewedImage, ReviewedMask, crosses_itself

SAME_MASK_IOU = 0.5
"""IoU from which a returned mask without a known id matches a shown mask, best pairs first."""


def correct_image(
    reviewed: ReviewedImage,
    image: ImageRow,
    shown: ImageLabels,
    before: ImageCorrection | None,
    classes: Mapping[str, int | None],
    tool: str,
    imported_at: str,
) -> ImageCorrection:
    """The correction of one image.

    Args:
        reviewed: the image as it came back.
        image: its row of the store.
        shown: the labels that were exported: the machine's, or an earlier correction's.
        before: that earlier correction.
        classes: class ids by name; None for entities.
        tool: the format it came back in.
        imported_at: UTC, ISO 8601.

    Raises:
        InputError: another size, a class unknown to the store, another store's masks, or a polygon that crosses itself.
    """
    earlier = {mask.mask_id: mask for mask in before.masks} if before else {}
    restorable = _restorable(image, earlier)
    aliases = {mask.parent_id: mask.mask_id for mask in earlier.values() if mask.parent_id and mask.action != "deleted"}
    _check(reviewed, image, shown, classes, earlier.keys() | aliases.keys())
    given = _pair(reviewed.masks, shown.masks, restorable, aliases)
    masks: list[CorrectedMask | None] = []
    met: set[str | None] = set()
    for mask, parent in zip(reviewed.masks, given, strict=True):
        class_id = classes[mask.class_name]
        if parent is None:
            _check_outline(mask, image)
            masks.append(new_mask(image, mask, "added", None, class_id, None))
            continue
        met.add(parent.mask_id)
        was = earlier.get(str(parent.mask_id))
        name = None if class_id is None else mask.class_name
        if _same(mask, parent, reviewed.tolerance_px):
            action: Action = "confirmed" if class_id == parent.class_id else "relabelled"
            drawn = was.drawn_as if was else None
            kept = CorrectedMask(action, str(parent.mask_id), parent.mask_id, parent.rle, class_id, name, 1.0, drawn)
        else:
            _check_outline(mask, image)
            iou = float(rle_ious([mask.rle], [parent.rle])[0, 0])
            kept = new_mask(image, mask, "edited", parent.mask_id, class_id, iou)
        masks.append(kept if was is not None and was.action == "deleted" else _with_history(kept, was))
    masks += [_deleted(mask, earlier.get(str(mask.mask_id))) for mask in shown.masks if mask.mask_id not in met]
    masks += [mask for mask in earlier.values() if mask.action == "deleted" and mask.mask_id not in met]
    return ImageCorrection(
        image_id=image.image_id,
        content_sha256=image.content_sha256,
        size_hw=shown.size_hw,
        tool=tool,
        annotator=reviewed.annotator,
        corrected_at=reviewed.corrected_at,
        imported_at=imported_at,
        uri=image.uri,
        member=image.member,
        masks=tuple(mask for mask in masks if mask is not None),
    )


def _restorable(image: ImageRow, earlier: Mapping[str, CorrectedMask]) -> list[LabelledMask]:
    """The machine's masks that an earlier correction deleted: the person may restore them."""
    machine = image.labels.masks if image.labels else ()
    deleted = {mask.mask_id for mask in earlier.values() if mask.action == "deleted"}
    return [mask for mask in machine if mask.mask_id in deleted]


def _check(
    reviewed: ReviewedImage,
    image: ImageRow,
    shown: ImageLabels,
    classes: Mapping[str, int | None],
    earlier_ids: Set[str],
) -> None:
    if reviewed.masks and reviewed.size_hw != shown.size_hw:
        raise InputError(
            f"{image.image_id} came back with {reviewed.size_hw[1]} x {reviewed.size_hw[0]} pixels, its labels are for "
            f"{shown.size_hw[1]} x {shown.size_hw[0]}; the image was resized or turned since it was exported"
        )
    for mask in reviewed.masks:
        if mask.class_name not in classes:
            raise InputError(
                f"{image.image_id} came back with the class {mask.class_name!r}, which the store does not know; "
                f"rename it to one of {', '.join(sorted(classes))}"
            )
    ids = {mask.mask_id for mask in reviewed.masks if _is_ours(mask.mask_id)}
    if ids and not ids & ({mask.mask_id for mask in shown.masks} | earlier_ids) and shown.masks:
        raise InputError(
            f"none of the masks of {image.image_id} has an id of this store; the export was made from another store, "
            "or the image was labelled anew since"
        )


def _is_ours(mask_id: str | None) -> bool:
    return mask_id is not None and len(mask_id) == 24 and set(mask_id) <= set("0123456789abcdef")


def _check_outline(mask: ReviewedMask, image: ImageRow) -> None:
    if any(crosses_itself(polygon) for polygon in mask.polygons):
        raise InputError(
            f"a polygon ({mask.class_name}) of {image.image_id} crosses itself, so that its inside is not "
            "clear; redraw it"
        )


def _pair(
    masks: Sequence[ReviewedMask],
    shown: Sequence[LabelledMask],
    restorable: Sequence[LabelledMask],
    aliases: Mapping[str, str],
) -> list[LabelledMask | None]:
    """The mask that each returned mask comes from: by id, else by the best IoU with the remaining shown masks.

    Args:
        masks: as they came back.
        shown: as last exported.
        restorable: deleted earlier; matched only by id.
        aliases: ids of shown masks before an earlier correction, as projects are exported once and imported weekly.
    """
    by_id = {mask.mask_id: mask for mask in (*restorable, *shown)}
    found: list[LabelledMask | None] = []
    taken: set[str | None] = set()
    for mask in masks:
        parent = by_id.get(mask.mask_id) or by_id.get(aliases.get(str(mask.mask_id)))
        parent = parent if parent is not None and parent.mask_id not in taken else None
        found.append(parent)
        if parent is not None:
            taken.add(parent.mask_id)
    left = [number for number, parent in enumerate(found) if parent is None]
    free = [mask for mask in shown if mask.mask_id not in taken]
    ious = rle_ious([masks[number].rle for number in left], [mask.rle for mask in free])
    while ious.size and ious.max() >= SAME_MASK_IOU:
        row, column = divmod(int(ious.argmax()), ious.shape[1])
        found[left[row]] = free[column]
        ious[row, :] = ious[:, column] = 0.0
    return found


def _same(mask: ReviewedMask, parent: LabelledMask, tolerance_px: float) -> bool:
    """Whether a mask equals, to the pixel, what the export wrote for its parent."""
    if mask.rle["counts"] == parent.rle["counts"]:
        return True
    if not mask.polygons or not tolerance_px:
        return False
    height, width = parent.rle["size"]
    return fill_polygons(coco_polygons(parent, tolerance_px), (height, width))["counts"] == mask.rle["counts"]


def new_mask(
    image: ImageRow,
    drawn: ReviewedMask,
    action: Action,
    parent_id: str | None,
    class_id: int | None,
    iou: float | None,
) -> CorrectedMask:
    """A mask with a new outline, and an id derived from its content."""
    name = None if class_id is None else drawn.class_name
    content = json.dumps([image.content_sha256, image.image_id, action, parent_id, dict(drawn.rle), class_id, name])
    mask_id = hashlib.sha256(content.encode()).hexdigest()[:24]
    return CorrectedMask(action, mask_id, parent_id, drawn.rle, class_id, name, iou, drawn.drawn_as)


def _with_history(mask: CorrectedMask, earlier: CorrectedMask | None) -> CorrectedMask:
    """A mask with its history from an earlier correction: the machine's mask stays its parent."""
    if earlier is None or earlier.action in ("confirmed", "kept"):
        return mask
    if mask.action == "confirmed" or earlier.action == "added":
        return replace(mask, action=earlier.action, parent_id=earlier.parent_id, iou=earlier.iou)
    return replace(mask, parent_id=earlier.parent_id)


def _deleted(mask: LabelledMask, earlier: CorrectedMask | None) -> CorrectedMask | None:
    """The record of a deleted mask; None if only a person had added it."""
    if earlier is not None and earlier.parent_id is None:
        return None
    parent, drawn = (earlier.parent_id, earlier.drawn_as) if earlier else (mask.mask_id, None)
    return CorrectedMask("deleted", str(mask.mask_id), parent, mask.rle, mask.class_id, mask.class_name, 0.0, drawn)
