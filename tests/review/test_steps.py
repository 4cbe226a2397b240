"""Single steps on an image become entries of the log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from everymask.errors import InputError
from everymask.labels.correction import ImageCorrection
from everymask.labels.corrections import corrected
from everymask.labels.rows import ImageRow
from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels
from everymask.review.steps import Step, entry_of
from tests.labels.examples import labels

IMAGE = ImageRow("a.jpg", "/photos/a.jpg", labels(classes=True), None, "ab" * 32)
CAT, DOG = (str(mask.mask_id) for mask in IMAGE.labels.masks)  # type: ignore[union-attr]
CLASSES = {"cat": 0, "dog": 1}
CORNER = encode_mask(np.pad(np.ones((5, 6), bool), ((0, 35), (0, 54))))


def after(*steps: Step, heads: list[ImageCorrection] | None = None, image: ImageRow = IMAGE) -> ImageCorrection:
    entry = entry_of(image, heads or [], steps, CLASSES, "ada", "2026-11-29T10:00:00+00:00")
    assert entry is not None
    return entry


def actions(entry: ImageCorrection) -> list[tuple[str, str | None]]:
    return [(mask.action, mask.class_name) for mask in entry.masks]


def test_steps_say_what_became_of_each_mask() -> None:
    entry = after(Step("confirm", (CAT,)))
    assert actions(entry) == [("confirmed", "cat"), ("kept", "dog")]
    assert (entry.finished, entry.changed, entry.annotator, entry.tool) == (False, False, "ada", "browse")
    assert (entry.uri, entry.content_sha256, entry.bases) == (IMAGE.uri, IMAGE.content_sha256, ())
    assert actions(after(Step("delete", (DOG,)))) == [("kept", "cat"), ("deleted", "dog")]
    assert actions(after(Step("rename", (CAT, DOG), "dog"))) == [("relabelled", "dog"), ("confirmed", "dog")]
    assert actions(after(Step("delete", (CAT,)), Step("confirm", None))) == [("deleted", "cat"), ("confirmed", "dog")]
    assert after(Step("delete", (CAT,)), Step("confirm", None)).finished


def test_what_is_restored_is_what_it_was() -> None:
    deleted = after(Step("rename", (CAT,), "dog"), Step("delete", (CAT, DOG)))
    assert actions(after(Step("restore", (CAT, DOG)), heads=[deleted])) == [("relabelled", "dog"), ("confirmed", "dog")]
    assert actions(after(Step("rename", (CAT,), "dog"), Step("rename", (CAT,), "cat")))[0] == ("confirmed", "cat")


def test_an_added_mask_is_shown_and_gone_when_it_is_deleted() -> None:
    added = after(Step("add", class_name="dog", rle=CORNER))
    assert actions(added)[2] == ("added", "dog")
    shown = corrected(IMAGE, {"a.jpg": added}).labels
    assert shown is not None
    assert [mask.rle for mask in shown.masks if mask.mask_id == added.masks[2].mask_id] == [CORNER]
    again = after(Step("delete", (added.masks[2].mask_id,)), heads=[added])
    assert actions(again) == [("kept", "cat"), ("kept", "dog")]
    assert again.bases == (added.entry_id,)
    with pytest.raises(InputError, match="has this mask already"):
        after(Step("add", class_name="dog", rle=CORNER), heads=[added])


def test_no_mask_is_an_answer_too() -> None:
    empty = replace(IMAGE, labels=ImageLabels((40, 60), (), 0.0))
    entry = after(Step("confirm", None), image=empty)
    assert (entry.masks, entry.finished) == ((), True)
    assert entry_of(empty, [entry], [Step("confirm", None)], CLASSES, "bob", "2026") is None


def test_entities_have_no_class() -> None:
    entities = replace(IMAGE, labels=labels())
    entry = entry_of(entities, [], [Step("add", rle=CORNER)], {}, "ada", "2026")
    assert entry is not None
    assert (entry.masks[2].class_id, entry.masks[2].class_name) == (None, None)


def test_one_of_two_entries_can_be_taken() -> None:
    mine, theirs = after(Step("delete", (CAT,))), after(Step("delete", (DOG,)))
    settled = after(Step("take", entry_id=mine.entry_id), heads=[mine, theirs])
    assert (settled.masks, set(settled.bases)) == (mine.masks, {mine.entry_id, theirs.entry_id})


def test_a_correction_of_another_file_is_not_gone_on_with() -> None:
    stale = replace(after(Step("delete", (CAT, DOG))), content_sha256="cd" * 32)
    entry = after(Step("confirm", (CAT,)), heads=[stale])
    assert actions(entry) == [("confirmed", "cat"), ("kept", "dog")]
    assert entry.bases == (stale.entry_id,)


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (Step("delete", ("0" * 24,)), "has no mask 0000"),
        (Step("rename", (CAT,), "horse"), r"'horse' is none of the store's \(cat, dog\)"),
        (Step("rename", (CAT,)), "None is none of the store's"),
        (Step("add", class_name="cat", rle=encode_mask(np.zeros((40, 60), bool))), "is empty"),
        (Step("add", class_name="cat", rle=encode_mask(np.ones((3, 4), bool))), "another size"),
        (Step("take", entry_id="0" * 32), "has no correction 0000"),
    ],
)
def test_what_does_not_fit_is_one_sentence(step: Step, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        after(step)


def test_steps_that_change_nothing_make_no_entry() -> None:
    finished = after(Step("confirm", None))
    assert entry_of(IMAGE, [finished], [Step("confirm", None)], CLASSES, "ada", "2026") is None


def test_an_image_with_an_error_is_not_corrected() -> None:
    broken = ImageRow("a.jpg", "a.jpg", None, "it is broken")
    with pytest.raises(InputError, match="label it again"):
        entry_of(broken, [], [Step("confirm", None)], CLASSES, "ada", "2026")
