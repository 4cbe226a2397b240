"""What people left stays as it is when labels are made anew; only what nobody has judged is the new model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from everymask.errors import ConfigurationError, InputError
from everymask.labels.correction import ImageCorrection
from everymask.labels.correction_history import undo
from everymask.labels.correction_log import CorrectionLog, read_history
from everymask.labels.corrections import labelled_images
from everymask.labels.mask_ids import with_mask_ids
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels
from everymask.review.carrying import Classes, carried_masks, carry_over, check_carriable
from everymask.review.steps import Step, entry_of
from tests.labels.examples import mask_record

SIZE_HW = (40, 60)
BEFORE, NOW = ["cat", "dog"], ["bird", "dog", "cat"]
CLASSES = Classes.of(BEFORE, NOW, BEFORE)
LEFT, MIDDLE, RIGHT = (0, 20), (20, 40), (40, 60)


def columns(first: int, last: int, bottom: int = 40) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE_HW, dtype=np.bool_)
    mask[:bottom, first:last] = True
    return mask


def row(names: Sequence[str], masks: Sequence[tuple[NDArray[np.bool_], str]], settings: str) -> ImageRow:
    """An image as a model with these classes labelled it."""
    records = [
        replace(mask_record(mask, 0.9 - 0.1 * number), class_id=names.index(name), class_name=name)
        for number, (mask, name) in enumerate(masks)
    ]
    labels = with_mask_ids(ImageLabels(SIZE_HW, tuple(records), 0.5), "ab" * 32, settings * 64)
    return ImageRow("a.jpg", "/photos/a.jpg", labels, None, "ab" * 32)


OLD = row(BEFORE, [(columns(*LEFT), "cat"), (columns(*MIDDLE), "dog"), (columns(*RIGHT), "dog")], "0")
FIRST, SECOND, THIRD = (str(mask.mask_id) for mask in OLD.labels.masks)  # type: ignore[union-attr]


def corrected_by(*steps: Step, image: ImageRow = OLD) -> ImageCorrection:
    found = entry_of(image, [], steps, {"cat": 0, "dog": 1}, "ada", "2026-11-30T10:00:00.000+00:00")
    assert found is not None
    return found


def anew(*masks: tuple[NDArray[np.bool_], str]) -> ImageRow:
    return row(NOW, masks, "1")


def carried(entry: ImageCorrection, image: ImageRow | None) -> list[tuple[str, str | None, str]]:
    """(action, class, counts) of the masks; carrying them again changes nothing."""
    masks = carried_masks(entry, image, CLASSES)
    assert carried_masks(replace(entry, masks=masks), image, CLASSES) == masks
    assert all(mask.class_id == CLASSES.ids[str(mask.class_name)] for mask in masks)
    assert len({mask.mask_id for mask in masks}) == len(masks)
    known = {str(mask.mask_id) for mask in image.labels.masks} if image and image.labels else set()
    for mask in masks:
        if mask.action in ("confirmed", "relabelled", "kept", "edited"):
            assert mask.parent_id in known or not known
    return [(mask.action, mask.class_name, mask.rle["counts"]) for mask in masks]


def counts(*extent: int) -> str:
    return encode_mask(columns(*extent))["counts"]


def test_a_confirmed_mask_that_is_found_again_is_confirmed_and_the_others_are_the_models() -> None:
    entry = corrected_by(Step("confirm", (FIRST,)))
    found = carried(entry, anew((columns(*LEFT), "cat"), (columns(20, 60), "bird")))
    assert found == [("confirmed", "cat", counts(*LEFT)), ("kept", "bird", counts(20, 60))]


def test_what_a_person_confirmed_stays_to_the_pixel_whatever_the_model_says_now() -> None:
    entry = corrected_by(Step("confirm", (FIRST, SECOND)))
    found = carried(entry, anew((columns(0, 18), "cat"), (columns(*MIDDLE), "bird")))
    assert found == [("edited", "cat", counts(*LEFT)), ("relabelled", "dog", counts(*MIDDLE))]
    (edited, _) = carried_masks(entry, anew((columns(0, 18), "cat")), CLASSES)
    assert edited.iou == pytest.approx(0.9)
    assert carried(entry, anew()) == [("added", "cat", counts(*LEFT)), ("added", "dog", counts(*MIDDLE))]


def test_a_new_mask_where_a_person_drew_the_same_class_is_deleted_and_one_of_another_class_is_not() -> None:
    entry = corrected_by(Step("add", class_name="cat", rle=encode_mask(columns(0, 60, 30))))
    halves = (
        (columns(0, 20, 30), "cat"),
        (columns(24, 48, 30), "cat"),
        (columns(0, 60), "dog"),
        (columns(50, 60), "dog"),
    )
    found = carried(entry, anew(*halves))
    assert ("edited", "cat", counts(0, 60, 30)) in found  # paired with the dog, which has its outline nearly
    assert ("deleted", "cat", counts(0, 20, 30)) in found
    assert ("deleted", "cat", counts(24, 48, 30)) in found
    assert ("kept", "dog", counts(50, 60)) in found


def test_what_a_person_deleted_stays_deleted_unless_it_is_something_else_now() -> None:
    entry = corrected_by(Step("delete", (FIRST, SECOND)))
    found = carried(entry, anew((columns(0, 19), "cat"), (columns(20, 39), "bird")))
    assert ("deleted", "cat", counts(0, 19)) in found
    assert ("deleted", "dog", counts(*MIDDLE)) in found  # of which nothing was found again
    assert ("kept", "bird", counts(20, 39)) in found
    assert len(found) == 3


def test_a_finished_image_stays_as_it_was_left_and_only_new_classes_are_asked_about() -> None:
    entry = corrected_by(Step("delete", (FIRST,)), Step("confirm", None))
    new = anew((columns(0, 10), "dog"), (columns(20, 41), "dog"), (columns(41, 60), "dog"), (columns(0, 60, 5), "bird"))
    found = carried(entry, new)
    shown = [one for one in found if one[0] not in ("deleted", "kept")]
    assert shown == [("edited", "dog", counts(*MIDDLE)), ("edited", "dog", counts(*RIGHT))]
    assert [one for one in found if one[0] == "kept"] == [("kept", "bird", counts(0, 60, 5))]
    assert ("deleted", "dog", counts(0, 10)) in found


def test_a_finished_empty_image_stays_empty() -> None:
    entry = corrected_by(Step("delete", (FIRST, SECOND, THIRD)))
    assert {action for action, _, _ in carried(entry, anew((columns(*LEFT), "cat"), (columns(30, 60), "dog")))} == {
        "deleted"
    }


def test_classes_that_the_new_labels_lack_keep_their_names() -> None:
    entry = corrected_by(Step("confirm", None))
    classes = Classes.of(BEFORE, ["bird", "dog"], BEFORE)
    masks = carried_masks(entry, row(["bird", "dog"], [], "1"), classes)
    assert {(mask.class_name, mask.class_id) for mask in masks} == {("cat", 2), ("dog", 1)}


def test_of_a_lost_image_another_file_or_an_error_only_ids_of_classes_change() -> None:
    entry = corrected_by(Step("confirm", (FIRST,)))
    failed = ImageRow("a.jpg", "/photos/a.jpg", None, "the file is not there")
    for image in (None, failed, replace(anew(), content_sha256="cd" * 32)):
        assert [action for action, _, _ in carried(entry, image)] == ["confirmed", "kept", "kept"]


def test_entities_are_carried_to_entities_and_to_nothing_else() -> None:
    check_carriable(None, None)
    check_carriable(BEFORE, NOW)
    with pytest.raises(ConfigurationError, match="people corrected classes here, which cannot be carried over to ent"):
        check_carriable(BEFORE, None)
    entities = replace(OLD.labels, masks=tuple(replace(m, class_id=None, class_name=None) for m in OLD.labels.masks))  # type: ignore[union-attr, type-var, arg-type]
    image = replace(OLD, labels=entities)
    entry = entry_of(image, [], [Step("confirm", (FIRST,))], {}, "ada", "2026-11-30T10:00:00.000+00:00")
    assert entry is not None
    masks = carried_masks(entry, image, Classes.of(None, None, []))
    assert [(mask.action, mask.class_id) for mask in masks] == [("confirmed", None), ("kept", None), ("kept", None)]


def test_a_store_is_carried_over_once_with_its_history_and_its_conflicts(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    mine = corrected_by(Step("confirm", (FIRST,)))
    theirs = replace(
        corrected_by(Step("delete", (FIRST,))), annotator="bob", imported_at="2026-11-30T11:00:00.000+00:00"
    )
    log = CorrectionLog(store, "ada")
    log.keep([mine])
    log.keep([theirs])
    store.write_part(to_table([anew((columns(*LEFT), "cat"), (columns(30, 60), "bird"))]), {"class_names": NOW})
    assert carry_over(store, BEFORE, NOW) == 1
    assert carry_over(store, BEFORE, NOW) == 0
    history = read_history(store)
    heads = history.heads("a.jpg")
    assert [(head.annotator, head.bases, head.tool) for head in heads] == [
        ("ada", (mine.entry_id,), "update"),
        ("bob", (theirs.entry_id,), "update"),
    ]
    ((_, labels),) = labelled_images(store)
    assert [(mask.class_id, mask.class_name) for mask in labels.masks] == [(0, "bird")]
    (image,) = store.images()
    with pytest.raises(InputError, match="no correction that could be taken back"):
        undo(history, image, "bob", "2026-11-30T12:00:00.000+00:00")
