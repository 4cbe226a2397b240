"""What became of each mask, case by case: what a person returns against what they were shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from everymask.errors import InputError
from everymask.formats.outlines import coco_polygons
from everymask.labels.corrections import CorrectedMask, ImageCorrection, corrected
from everymask.labels.mask_ids import with_mask_ids
from everymask.labels.rows import ImageRow
from everymask.masks.checked import fill_polygons
from everymask.masks.rle import decode_mask, encode_mask
from everymask.records import ImageLabels, LabelledMask, Member
from everymask.review.matching import correct_image
from everymask.review.reviewed import ReviewedImage, ReviewedMask
from tests.labels.examples import mask_record

SIZE = (20, 40)
CLASSES: Mapping[str, int | None] = {"cat": 0, "dog": 1}


def strip(x0: int, x1: int) -> NDArray[np.bool_]:
    """A mask of whole columns: 20 pixels for each of x0 … x1 - 1."""
    mask = np.zeros(SIZE, bool)
    mask[:, x0:x1] = True
    return mask


def image_of(*masks: NDArray[np.bool_]) -> ImageRow:
    """An image whose masks are cats with falling scores."""
    records = tuple(mask_record(mask, 0.9 - 0.1 * number, 0) for number, mask in enumerate(masks))
    labels = with_mask_ids(ImageLabels(SIZE, records, 0.5), "ab" * 32, "0" * 64)
    return ImageRow("a.png", "/a.png", labels, None, "ab" * 32)


def returned(
    mask: NDArray[np.bool_] | LabelledMask, mask_id: str | None = None, class_name: str = "cat"
) -> ReviewedMask:
    """A mask as it comes back; a labelled one with its own id."""
    if isinstance(mask, LabelledMask):
        return ReviewedMask(mask.rle, class_name, mask.mask_id if mask_id is None else mask_id)
    return ReviewedMask(encode_mask(mask), class_name, mask_id)


def correct(image: ImageRow, masks: Sequence[ReviewedMask], before: ImageCorrection | None = None) -> ImageCorrection:
    """The correction, of the machine's labels or of those that an earlier correction left."""
    shown = corrected(image, {image.image_id: before}).labels if before else image.labels
    assert shown is not None
    reviewed = ReviewedImage("a.png", "a.png", SIZE, tuple(masks), "a@b.c", "2026-11-28T10:00:00Z")
    return correct_image(reviewed, image, shown, before, CLASSES, "coco", "2026-11-29T12:00:00Z")


def machine(image: ImageRow) -> tuple[LabelledMask, ...]:
    """The masks of the model."""
    assert image.labels is not None
    return image.labels.masks


def only(correction: ImageCorrection, action: str) -> CorrectedMask:
    """The one mask that this became of."""
    (mask,) = [mask for mask in correction.masks if mask.action == action]
    return mask


@pytest.mark.parametrize(
    ("x1", "actions"),
    [
        (10, ["confirmed"]),
        (14, ["edited"]),  # IoU 10 / 14
        (20, ["edited"]),  # IoU 1/2, the least that counts
        (21, ["added", "deleted"]),
        (30, ["added", "deleted"]),
    ],
)
def test_a_mask_without_an_id_is_the_one_it_half_overlaps(x1: int, actions: list[str]) -> None:
    image = image_of(strip(0, 10))
    correction = correct(image, [returned(strip(0, x1))])
    assert [mask.action for mask in correction.masks] == actions
    if actions == ["edited"]:
        assert correction.masks[0].parent_id == machine(image)[0].mask_id
        assert correction.masks[0].iou == pytest.approx(10 / x1)


def test_without_ids_the_best_pair_comes_first() -> None:
    """The middle one overlaps both shown masks; what it is taken for depends on who overlaps more."""
    image = image_of(strip(0, 10), strip(10, 20))
    first, second = machine(image)
    correction = correct(image, [returned(strip(3, 10)), returned(strip(0, 9))])
    assert {mask.action: mask.parent_id for mask in correction.masks} == {
        "added": None,
        "edited": first.mask_id,
        "deleted": second.mask_id,
    }
    np.testing.assert_array_equal(decode_mask(only(correction, "edited").rle), strip(0, 9))
    both = correct(image, [returned(strip(10, 18)), returned(strip(0, 7))])
    assert [(mask.action, mask.parent_id) for mask in both.masks] == [
        ("edited", second.mask_id),
        ("edited", first.mask_id),
    ]


def test_an_id_counts_more_than_any_overlap() -> None:
    image = image_of(strip(0, 10), strip(10, 20))
    first, second = machine(image)
    correction = correct(image, [returned(strip(10, 20), first.mask_id), returned(strip(0, 10), second.mask_id)])
    assert [(mask.action, mask.parent_id, mask.iou) for mask in correction.masks] == [
        ("edited", first.mask_id, 0.0),
        ("edited", second.mask_id, 0.0),
    ]


def test_of_two_masks_with_one_id_the_second_is_new() -> None:
    """Tools copy a mask with all that belongs to it."""
    image = image_of(strip(0, 10))
    (cat,) = machine(image)
    correction = correct(image, [returned(cat), returned(strip(30, 34), cat.mask_id)])
    assert [(mask.action, mask.parent_id) for mask in correction.masks] == [("confirmed", cat.mask_id), ("added", None)]
    assert correction.masks[1].mask_id != cat.mask_id


def test_what_nobody_had_judged_on_the_page_is_judged_by_who_returns_it() -> None:
    """`everymask browse` keeps the masks that a person passed over as `kept`."""
    image = image_of(strip(0, 10), strip(10, 20))
    first, second = machine(image)
    passed_over = tuple(
        CorrectedMask("kept", str(mask.mask_id), mask.mask_id, mask.rle, mask.class_id, mask.class_name, 1.0)
        for mask in (first, second)
    )
    before = replace(correct(image, [returned(first), returned(second)]), masks=passed_over)
    correction = correct(image, [returned(first), returned(strip(10, 22), second.mask_id)], before)
    assert [(mask.action, mask.parent_id) for mask in correction.masks] == [
        ("confirmed", first.mask_id),
        ("edited", second.mask_id),
    ]


def test_an_added_mask_that_is_deleted_leaves_no_trace() -> None:
    image = image_of(strip(0, 10))
    (cat,) = machine(image)
    first = correct(image, [returned(cat), returned(strip(20, 30), class_name="dog")])
    assert [mask.action for mask in first.masks] == ["confirmed", "added"]
    second = correct(image, [returned(cat)], first)
    assert [(mask.action, mask.mask_id) for mask in second.masks] == [("confirmed", cat.mask_id)]


def test_an_added_mask_that_is_edited_stays_added() -> None:
    image = image_of(strip(0, 10))
    (cat,) = machine(image)
    first = correct(image, [returned(cat), returned(strip(20, 30))])
    added = only(first, "added")
    second = correct(image, [returned(cat), returned(strip(20, 32), added.mask_id)], first)
    edited = only(second, "added")
    assert (edited.parent_id, edited.iou) == (None, None)
    assert edited.mask_id != added.mask_id
    np.testing.assert_array_equal(decode_mask(edited.rle), strip(20, 32))


def test_a_second_edit_keeps_the_machines_mask_as_its_parent() -> None:
    image = image_of(strip(0, 10))
    (cat,) = machine(image)
    first = correct(image, [returned(strip(0, 12), cat.mask_id)])
    edited = only(first, "edited")
    assert (edited.parent_id, edited.mask_id == cat.mask_id) == (cat.mask_id, False)
    second = correct(image, [returned(strip(0, 15), edited.mask_id)], first)
    again = only(second, "edited")
    assert again.parent_id == cat.mask_id
    assert len({cat.mask_id, edited.mask_id, again.mask_id}) == 3


def test_looking_again_at_an_edited_mask_changes_nothing() -> None:
    image = image_of(strip(0, 10), strip(10, 20))
    cat, other = machine(image)
    first = correct(image, [returned(strip(0, 12), cat.mask_id), returned(other, class_name="dog")])
    assert [mask.action for mask in first.masks] == ["edited", "relabelled"]
    edited, relabelled = first.masks
    second = correct(image, [returned(strip(0, 12), edited.mask_id), returned(other, class_name="dog")], first)
    assert second.masks == (edited, relabelled)


def test_the_end_of_an_edited_mask_is_that_of_the_machines_and_lasts() -> None:
    image = image_of(strip(0, 10), strip(10, 20))
    cat, other = machine(image)
    first = correct(image, [returned(strip(0, 12), cat.mask_id), returned(other)])
    second = correct(image, [returned(other)], first)
    assert only(second, "deleted").parent_id == cat.mask_id
    third = correct(image, [returned(other)], second)
    assert third.masks == second.masks


def test_another_class_relabels_and_another_outline_edits_even_then() -> None:
    image = image_of(strip(0, 10), strip(10, 20))
    first, second = machine(image)
    correction = correct(
        image, [returned(first, class_name="dog"), returned(strip(10, 22), second.mask_id, class_name="dog")]
    )
    assert [(mask.action, mask.class_id, mask.class_name) for mask in correction.masks] == [
        ("relabelled", 1, "dog"),
        ("edited", 1, "dog"),
    ]
    assert (correction.masks[0].mask_id, correction.masks[0].iou) == (first.mask_id, 1.0)
    assert correction.masks[1].iou == pytest.approx(10 / 12)


@pytest.mark.parametrize(
    ("as_polygons", "tolerance_px", "action"),
    [(True, 1.0, "confirmed"), (True, 0.0, "edited"), (True, 0.3, "edited"), (False, 1.0, "edited")],
)
def test_an_outline_that_the_export_simplified_is_no_edit(as_polygons: bool, tolerance_px: float, action: str) -> None:
    """Only outlines are simplified, and only by the tolerance that the export says it had."""
    size = (120, 160)
    y, x = np.mgrid[:120, :160]
    shown = with_mask_ids(
        ImageLabels(size, (mask_record(np.hypot(x - 80, y - 60) < 48, 0.9, 0),), 0.5), "ab" * 32, "0" * 64
    )
    (disc,) = shown.masks
    outline = coco_polygons(disc, 1.0)
    filled = fill_polygons(outline, size)
    assert filled["counts"] != disc.rle["counts"]
    came_back = ReviewedMask(filled, "cat", disc.mask_id, tuple(map(tuple, outline)) if as_polygons else ())
    reviewed = ReviewedImage("a.png", "a.png", size, (came_back,), tolerance_px=tolerance_px)
    image = ImageRow("a.png", "/a.png", shown, None, "ab" * 32)
    (mask,) = correct_image(reviewed, image, shown, None, CLASSES, "coco", "2026-11-29T12:00:00Z").masks
    assert (mask.action, mask.parent_id) == (action, disc.mask_id)
    assert mask.rle == (disc.rle if action == "confirmed" else filled), "the store's own pixels stay"


@pytest.mark.parametrize("is_ours", [True, False])
def test_an_outline_that_crosses_itself_is_refused_with_its_image(is_ours: bool) -> None:
    image = image_of(strip(0, 10))
    (cat,) = machine(image)
    bow = ReviewedMask(encode_mask(strip(0, 8)), "cat", cat.mask_id if is_ours else None, ((0, 0, 8, 8, 8, 0, 0, 8),))
    with pytest.raises(InputError, match=r"a polygon \(cat\) of a\.png crosses itself"):
        correct(image, [bow] if is_ours else [returned(cat), bow])


def test_what_is_known_of_the_import_is_kept() -> None:
    image = replace(image_of(strip(0, 10)), uri="/photos.tar", member=Member("range", "a.png"))
    correction = correct(image, [])
    assert (correction.image_id, correction.content_sha256, correction.size_hw) == ("a.png", "ab" * 32, SIZE)
    assert (correction.uri, correction.member) == ("/photos.tar", Member("range", "a.png"))
    assert (correction.tool, correction.imported_at) == ("coco", "2026-11-29T12:00:00Z")
    assert (correction.annotator, correction.corrected_at) == ("a@b.c", "2026-11-28T10:00:00Z")
    deleted = only(correction, "deleted")
    assert (deleted.mask_id, deleted.iou, deleted.class_name) == (machine(image)[0].mask_id, 0.0, "cat")


def test_ids_of_another_store_are_refused_but_one_of_ours_is_enough() -> None:
    image = image_of(strip(0, 10), strip(10, 20))
    first, _ = machine(image)
    foreign = returned(strip(10, 20), "f" * 24)
    with pytest.raises(InputError, match="the export was made from another store"):
        correct(image, [foreign])
    assert correct(image, [foreign, returned(first)]).count("confirmed") == 2


@pytest.mark.parametrize("mask_id", ["17", "x" * 24, "f" * 23])
def test_a_tools_own_ids_are_no_foreign_ones(mask_id: str) -> None:
    assert correct(image_of(strip(0, 10)), [returned(strip(0, 10), mask_id)]).count("confirmed") == 1


def test_another_size_is_refused_where_there_is_a_mask() -> None:
    image = image_of(strip(0, 10))
    assert image.labels is not None
    other = ReviewedMask(encode_mask(np.ones((20, 30), bool)), "cat", None)
    for masks, refused in (((other,), True), ((), False)):
        reviewed = ReviewedImage("a.png", "a.png", (20, 30), masks)
        arguments = (reviewed, image, image.labels, None, CLASSES, "coco", "2026-11-29T12:00:00Z")
        if refused:
            with pytest.raises(InputError, match="came back with 30 x 20 pixels, its labels are for 40 x 20"):
                correct_image(*arguments)
        else:
            assert correct_image(*arguments).count("deleted") == 1


def test_an_unknown_class_is_named_beside_the_known_ones() -> None:
    with pytest.raises(InputError, match="class 'cow', which the store does not know; rename it to one of cat, dog"):
        correct(image_of(strip(0, 10)), [returned(strip(0, 10), class_name="cow")])
