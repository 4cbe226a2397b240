"""People's corrections, kept beside the labels and never in place of them.

Labels stay as the model made them; `labelled_images` lays the log's entries that count over them
(`everymask.labels.correction_log`). An entry holds for the file it was made for: once the file has changed it is stale,
stays in the log, and is not shown.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from everymask.labels.correction import ACTIONS, Action, CorrectedMask, ImageCorrection
from everymask.labels.correction_log import has_corrections, read_corrections, write_corrections
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore
from everymask.masks.rle import boxes_from_rles, rle_areas
from everymask.masks.runs import crop_of
from everymask.records import ImageLabels, LabelledMask, Rle

__all__ = [
    "ACTIONS",
    "Action",
    "CorrectedMask",
    "ImageCorrection",
    "Survey",
    "corrected",
    "has_corrections",
    "is_stale",
    "labelled_images",
    "laid_over",
    "read_corrections",
    "survey",
    "write_corrections",
]


def is_stale(correction: ImageCorrection, content_sha256: str | None) -> bool:
    """Whether a correction is of another file than the one with this digest; False if either is unknown."""
    return None not in (correction.content_sha256, content_sha256) and correction.content_sha256 != content_sha256


def corrected(image: ImageRow, corrections: Mapping[str, ImageCorrection]) -> ImageRow:
    """An image as people left it; unchanged if they did not correct it, or corrected another file of that name.

    A correction replaces the error of an image that can no longer be read or labelled.
    """
    correction = corrections.get(image.image_id)
    if correction is None or is_stale(correction, image.content_sha256):
        return image
    if image.labels is None:
        return replace(image, labels=_apply(ImageLabels(correction.size_hw, (), 0.0), correction), error=None)
    if correction.size_hw != image.labels.size_hw:
        return image
    return replace(image, labels=_apply(image.labels, correction))


def labelled_images(
    store: LabelStore, corrections: bool = True, batch_size: int = 16
) -> Iterator[tuple[ImageRow, ImageLabels]]:
    """Labelled images as people left them, streaming; corrected ones whose row was lost come last.

    Args:
        corrections: False gives the labels as the model made them.
        batch_size: rows read at a time.

    Raises:
        InputError: there is no label store, or it is damaged.
    """
    yield from laid_over(store.images(batch_size), read_corrections(store) if corrections else {})


def laid_over(
    images: Iterable[ImageRow], known: Mapping[str, ImageCorrection]
) -> Iterator[tuple[ImageRow, ImageLabels]]:
    """The labelled ones of `images` as people left them; corrected ones missing from `images` come last."""
    lost = dict(known)
    for image in images:
        lost.pop(image.image_id, None)
        seen = corrected(image, known)
        if seen.labels is not None:
            yield seen, seen.labels
    for image_id, correction in lost.items():
        found = _apply(ImageLabels(correction.size_hw, (), 0.0), correction)
        uri, sha256 = correction.uri or image_id, correction.content_sha256
        yield ImageRow(image_id, uri, found, None, sha256, member=correction.member), found


@dataclass(frozen=True)
class Survey:
    """Which images `labelled_images` yields.

    Attributes:
        labelled: their ids.
        errors: number of other images, which have an error in place of labels.
        stale: ids of images whose correction is of another file.
    """

    labelled: list[str] = field(default_factory=list)
    errors: int = 0
    stale: list[str] = field(default_factory=list)


def survey(store: LabelStore, corrections: bool = True, image_ids: Container[str] | None = None) -> Survey:
    """Which images `labelled_images` would yield, from a few columns.

    `image_ids` restricts the survey; other arguments and errors are as in `labelled_images`.
    """
    known = read_corrections(store) if corrections else {}
    lost = dict(known)
    labelled, stale, errors = [], [], 0
    for batch in store.batches(["image_id", "status", "content_sha256"], batch_size=4096):
        for row in batch.to_pylist():
            correction = lost.pop(row["image_id"], None)
            if image_ids is not None and row["image_id"] not in image_ids:
                continue
            if correction is not None and is_stale(correction, row["content_sha256"]):
                stale.append(row["image_id"])
                correction = None
            if row["status"] == "error" and correction is None:
                errors += 1
            else:
                labelled.append(row["image_id"])
    labelled += [image_id for image_id in lost if image_ids is None or image_id in image_ids]
    return Survey(labelled, errors, stale)


def _apply(labels: ImageLabels, correction: ImageCorrection) -> ImageLabels:
    machine = {mask.mask_id: mask for mask in labels.masks}
    masks = [
        _labelled(mask, machine.get(mask.parent_id) if mask.parent_id else None)
        for mask in correction.masks
        if mask.action != "deleted"
    ]
    height, width = labels.size_hw
    if not correction.changed and (machine or not masks):
        coverage = labels.coverage
    else:  # overlaps apart, as good as the union
        coverage = min(1.0, sum(mask.area for mask in masks) / (height * width))
    ranked = sorted(masks, key=lambda mask: mask.score, reverse=True)
    # A finished image misses nothing.
    missed = labels.missed if labels.missed is None or not correction.finished else 0.0
    return ImageLabels(labels.size_hw, tuple(ranked), coverage, missed, labels.presence)


def _labelled(mask: CorrectedMask, parent: LabelledMask | None) -> LabelledMask:
    """A mask approved by a person: its score is 1, its class certain."""
    if parent is not None and mask.action == "kept":
        return parent
    if parent is not None and mask.action in ("confirmed", "relabelled"):
        kept = parent
    else:
        (box,), (area,) = boxes_from_rles([mask.rle]).tolist(), rle_areas([mask.rle]).tolist()
        x0, y0, x1, y1 = box
        kept = LabelledMask(mask.rle, (x0, y0, x1, y1), area, 1.0, 1.0, _a_pixel(mask.rle, (x0, y0, x1, y1)), 1.0)
    return replace(
        kept,
        mask_id=mask.mask_id,
        score=1.0,
        class_id=mask.class_id,
        class_name=mask.class_name,
        uncertainty=None if mask.class_id is None else 0.0,
    )


def _a_pixel(rle: Rle, box: tuple[int, int, int, int]) -> tuple[float, float]:
    """The centre (x, y) of a pixel of a mask; (0, 0) for an empty one."""
    crop = crop_of(rle, box)
    if not crop.any():
        return 0.0, 0.0
    y, x = divmod(int(crop.ravel().argmax()), crop.shape[1])
    return box[0] + x + 0.5, box[1] + y + 0.5
