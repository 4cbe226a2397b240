"""Numbers about a part's images and masks, without outlines, for queues and indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from everymask.errors import InputError
from everymask.files.location import Location
from everymask.labels.parts import read_header, read_mask_columns
from everymask.masks.checked import MAX_CLASSES

NO_CLASS = -1
"""Class id of an entity."""

_OF_MASKS = ("class_id", "class_name", "score", "uncertainty", "area")
_NEEDED = ("image_id", "status", "missed")


@dataclass(frozen=True)
class PartFacts:
    """N images and their M masks.

    Attributes:
        images: N rows of the requested columns.
        bounds: (N + 1,) int64; image i has masks `bounds[i]` to `bounds[i + 1]`.
        class_ids: (M,) int32, `NO_CLASS` for entities.
        class_names: names by class id.
        scores: (M,) float64.
        doubts: (M,) float64 in [0, 1], each mask's `everymask.labels.doubt.mask_doubt`.
        areas: (M,) int64 pixels.
    """

    images: pa.Table
    bounds: NDArray[np.int64]
    class_ids: NDArray[np.int32]
    class_names: dict[int, str]
    scores: NDArray[np.float64]
    doubts: NDArray[np.float64]
    areas: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """(N,) number of masks of each image."""
        return np.diff(self.bounds)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(N,) whether each image has an error in place of labels."""
        failed: NDArray[np.bool_] = pc.equal(self.images["status"], "error").to_numpy()
        return failed

    def image_doubts(self) -> NDArray[np.float64]:
        """(N,) each image's `everymask.labels.doubt.image_doubt`; 1 for those that failed."""
        missed = column_or_nan(self.images["missed"])
        to_mend = self._doubt_sums() + missed
        by_masks = (self.largest_doubts() + self.mean_doubts()) / 2
        return np.where(self.failed | np.isnan(missed), by_masks, to_mend / (1 + to_mend))

    def mean_doubts(self) -> NDArray[np.float64]:
        """(N,) mean doubt of each image's masks, 1 without masks."""
        return np.where(self.counts > 0, self._doubt_sums() / np.maximum(self.counts, 1), 1.0)

    def largest_doubts(self) -> NDArray[np.float64]:
        """(N,) doubt of each image's most doubtful mask, 1 without masks."""
        largest = np.ones(len(self.counts))
        having = self.counts > 0
        if having.any():
            largest[having] = np.maximum.reduceat(self.doubts, self.bounds[:-1][having])
        return largest

    def _doubt_sums(self) -> NDArray[np.float64]:
        owner = np.repeat(np.arange(len(self.counts)), self.counts)
        return np.bincount(owner, weights=self.doubts, minlength=len(self.counts)).astype(np.float64)


def read_facts(part: Location, columns: Sequence[str] = ()) -> PartFacts:
    """A part's facts.

    `columns` are further ones of images, besides `image_id`, `status` and `missed`.

    Raises:
        InputError: the part is damaged, foreign or holds invalid values.
        ConfigurationError: it has a newer format.
    """
    read_header(part)
    wanted = list(dict.fromkeys([*_NEEDED, *columns]))
    table = read_mask_columns(part, wanted, _OF_MASKS).combine_chunks()
    lists = table["masks"]
    masks = pa.concat_arrays([chunk.flatten() for chunk in lists.chunks]) if lists.num_chunks else pa.array([], _EMPTY)
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    try:
        return _facts(table.drop_columns(["masks"]), counts, masks)
    except InputError as error:
        raise InputError(
            f"{part} holds what makes no sense: {error}; move the file out of the label store, and label its images "
            "again"
        ) from error


_EMPTY = pa.struct([pa.field(name, pa.float64()) for name in _OF_MASKS])


def _facts(images: pa.Table, counts: NDArray[np.int64], masks: pa.StructArray) -> PartFacts:
    if masks.null_count:
        raise InputError("a mask is null")
    if images["image_id"].null_count:
        raise InputError("a row names no image")
    missed = column_or_nan(images["missed"])
    if not (np.isnan(missed) | (np.isfinite(missed) & (missed >= 0))).all():
        raise InputError("a row says that less than nothing, or all there is, was missed")
    scores, areas = _numbers(masks, "score"), _numbers(masks, "area")
    uncertainty = masks.field("uncertainty")
    unsure = column_or_nan(uncertainty)
    if not np.isfinite(unsure[~uncertainty.is_null().to_numpy(zero_copy_only=False)]).all():
        raise InputError("a mask has an uncertainty that is no number")
    class_ids = pc.fill_null(masks.field("class_id").cast(pa.int64()), NO_CLASS).to_numpy(zero_copy_only=False)
    if len(class_ids) and not (class_ids.min() >= NO_CLASS and class_ids.max() < MAX_CLASSES):
        raise InputError(f"a mask has a class_id outside of [0, {MAX_CLASSES})")
    return PartFacts(
        images,
        np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        class_ids.astype(np.int32),
        _names(class_ids, masks.field("class_name")),
        scores,
        np.where(np.isnan(unsure), 1 - scores, unsure).clip(0.0, 1.0),
        areas.astype(np.int64),
    )


def _numbers(masks: pa.StructArray, name: str) -> NDArray[np.float64]:
    values = column_or_nan(masks.field(name))
    if not np.isfinite(values).all():
        raise InputError(f"a mask has no {name}, or one that is no number")
    return values


def column_or_nan(column: Any) -> NDArray[np.float64]:
    """A column of numbers as float64, NaN where it is null."""
    values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def _names(class_ids: NDArray[np.int64], names: Any) -> dict[int, str]:
    """Each class's name; the first one if the store mixes class lists."""
    ids, first = np.unique(class_ids, return_index=True)
    found = {int(class_id): names[int(at)].as_py() for class_id, at in zip(ids, first, strict=True)}
    return {class_id: str(name) for class_id, name in found.items() if class_id != NO_CLASS and name is not None}
