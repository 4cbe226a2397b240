"""Corrections are kept beside the labels, and laid over them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from everymask.errors import ConfigurationError, InputError
from everymask.labels.correction_log import SCHEMA
from everymask.labels.corrections import (
    Action,
    CorrectedMask,
    ImageCorrection,
    corrected,
    has_corrections,
    labelled_images,
    read_corrections,
    write_corrections,
)
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels, LabelledMask
from tests.labels.examples import images

IMAGE = images(classes=True)[0]
assert IMAGE.labels is not None
LABELS: ImageLabels = replace(IMAGE.labels, missed=2.5)
LABELLED = replace(IMAGE, labels=LABELS)
HEIGHT, WIDTH = LABELS.size_hw
RING, BLOBS = LABELS.masks


def kept(mask: LabelledMask, action: Action = "confirmed", class_id: int | None = None) -> CorrectedMask:
    """A mask of the machine as a person left it, perhaps with another class."""
    index = mask.class_id if class_id is None else class_id
    assert index is not None
    return CorrectedMask(action, str(mask.mask_id), mask.mask_id, mask.rle, index, ("cat", "dog")[index], 1.0)


def drawn(action: Action, parent_id: str | None, iou: float | None = None) -> CorrectedMask:
    """A mask low and far to the right: 3 pixels high and 7 wide, and not at all square to its image."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[30:33, 50:57] = True
    return CorrectedMask(action, "d" * 24, parent_id, encode_mask(mask), 0, "cat", iou)


def correction(*masks: CorrectedMask, image_id: str = "a/1.jpg", tool: str = "coco") -> ImageCorrection:
    return ImageCorrection(
        image_id, "ab" * 32, (HEIGHT, WIDTH), tool, "a@b.c", "2026-11-28T10:00:00Z", "2026-11-29T10:00:00Z", masks
    )


def seen(*masks: CorrectedMask) -> ImageLabels:
    """The labels with this correction over them."""
    found = corrected(LABELLED, {"a/1.jpg": correction(*masks)}).labels
    assert found is not None
    return found


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    store = LabelStore(str(tmp_path / "labels"))
    store.write_part(to_table([LABELLED, *images(classes=True)[1:]]))
    return store


def test_every_field_comes_back(store: LabelStore) -> None:
    full = correction(kept(RING, "relabelled", 1), kept(BLOBS, "deleted"), drawn("added", None))
    bare = replace(correction(image_id="b/1.jpg"), annotator=None, corrected_at=None, content_sha256=None)
    assert not has_corrections(store)
    write_corrections(store, [full, bare])
    assert has_corrections(store)
    assert read_corrections(store) == {"a/1.jpg": full, "b/1.jpg": bare}


def test_a_file_has_the_types_of_its_format_whatever_is_in_it(store: LabelStore) -> None:
    bare = replace(correction(), annotator=None, corrected_at=None, content_sha256=None)
    assert pq.read_schema(write_corrections(store, [bare])).remove_metadata() == SCHEMA


def test_shapes_that_are_no_outline_are_kept_and_a_file_without_them_says_so_in_one_null(store: LabelStore) -> None:
    boxed = replace(correction(kept(RING, "relabelled", 1), drawn("added", None)), image_id="b/1.jpg")
    boxed = replace(boxed, masks=(boxed.masks[0], replace(boxed.masks[1], drawn_as="box")))
    rows = pq.read_table(write_corrections(store, [correction(drawn("added", None)), boxed])).to_pylist()
    assert {row["image_id"]: row["drawn_as"] for row in rows} == {"a/1.jpg": None, "b/1.jpg": [None, "box"]}
    assert read_corrections(store)["b/1.jpg"] == boxed


def test_the_latest_import_counts_and_older_ones_stay(store: LabelStore) -> None:
    first = [correction(tool="first"), correction(image_id="b/1.jpg", tool="first")]
    paths = [write_corrections(store, first)]
    for number in range(10):
        paths.append(write_corrections(store, [correction(kept(RING), tool=f"later {number}")]))
    assert len(set(paths)) == 11
    assert all(Path(path).is_file() for path in paths)
    found = read_corrections(store)
    assert {image_id: one.tool for image_id, one in found.items()} == {"a/1.jpg": "later 9", "b/1.jpg": "first"}


def test_a_newer_format_is_refused_and_this_one_is_not(store: LabelStore) -> None:
    path = write_corrections(store, [correction()])
    table = pq.read_table(path)
    described = json.loads(table.schema.metadata[b"everymask"])
    described["corrections"] += 1
    pq.write_table(table.replace_schema_metadata({b"everymask": json.dumps(described)}), path)
    with pytest.raises(ConfigurationError, match="of a newer format; upgrade everymask"):
        read_corrections(store)


def test_a_damaged_file_is_named(store: LabelStore) -> None:
    path = Path(write_corrections(store, [correction()]))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=rf"{path.name} is damaged"):
        read_corrections(store)


def test_a_correction_of_another_size_or_another_image_is_passed_over() -> None:
    turned = replace(correction(), size_hw=(WIDTH, HEIGHT))
    assert corrected(LABELLED, {"a/1.jpg": turned}) is LABELLED
    assert corrected(LABELLED, {"b/1.jpg": correction()}) is LABELLED
    failed = ImageRow("a/1.jpg", "/a", None, "the file is empty (0 bytes)", "0" * 64)
    assert corrected(failed, {"a/1.jpg": replace(correction(), content_sha256="f" * 64)}) is failed


def test_what_was_confirmed_or_relabelled_is_the_machines_mask_with_a_persons_certainty() -> None:
    ring, blobs = seen(kept(RING), kept(BLOBS, "relabelled", 0)).masks
    assert ring == replace(RING, score=1.0, uncertainty=0.0)
    assert blobs == replace(BLOBS, score=1.0, uncertainty=0.0, class_id=0, class_name="cat")


def test_a_drawn_mask_is_measured_anew() -> None:
    for action, parent in (("added", None), ("edited", RING.mask_id)):
        (mask,) = seen(drawn(action, parent)).masks
        assert (mask.box_xyxy, mask.area, mask.mask_id) == ((50, 30, 57, 33), 21, "d" * 24)
        assert (mask.predicted_iou, mask.stability_score, mask.score, mask.uncertainty) == (1, 1, 1, 0)
        x, y = mask.point_coords
        assert 50 <= x < 57
        assert 30 <= y < 33
        assert (x % 1, y % 1) == (0.5, 0.5), "the centre of a pixel"


def test_a_mask_that_was_drawn_empty_is_no_error() -> None:
    nothing = replace(drawn("edited", RING.mask_id, 0.0), rle=encode_mask(np.zeros((HEIGHT, WIDTH), bool)))
    (mask,) = seen(nothing).masks
    assert (mask.area, mask.point_coords) == (0, (0.0, 0.0))


def test_entities_have_no_class_to_be_certain_of() -> None:
    entity = replace(kept(RING), class_id=None, class_name=None)
    (mask,) = seen(entity).masks
    assert (mask.class_id, mask.class_name, mask.uncertainty) == (None, None, None)


def test_deleted_masks_are_gone_and_coverage_follows() -> None:
    assert seen(kept(RING), kept(BLOBS)).coverage == LABELS.coverage
    left = seen(kept(RING), kept(BLOBS, "deleted"))
    assert [mask.mask_id for mask in left.masks] == [RING.mask_id]
    assert left.coverage == pytest.approx(RING.area / (HEIGHT * WIDTH))
    everything = replace(drawn("added", None), rle=encode_mask(np.ones((HEIGHT, WIDTH), bool)))
    assert seen(kept(RING), everything).coverage == 1.0


def test_a_finished_image_misses_nothing() -> None:
    assert seen(kept(RING), kept(BLOBS)).missed == 0.0
    unknown = replace(LABELLED, labels=replace(LABELS, missed=None))
    found = corrected(unknown, {"a/1.jpg": correction(kept(RING))}).labels
    assert found is not None
    assert found.missed is None


def test_people_change_masks_and_not_what_the_model_said_of_the_picture() -> None:
    named = replace(LABELLED, labels=replace(LABELS, presence=(0.75, 0.5)))
    found = corrected(named, {"a/1.jpg": correction(kept(RING, "deleted"))}).labels
    assert found is not None
    assert found.presence == (0.75, 0.5)


def test_labels_stream_as_people_left_them_or_as_the_model_made_them(store: LabelStore) -> None:
    write_corrections(store, [correction(kept(RING))])
    people = {image.image_id: labels for image, labels in labelled_images(store)}
    model = {image.image_id: labels for image, labels in labelled_images(store, corrections=False, batch_size=1)}
    assert people.keys() == model.keys() == {"a/1.jpg", "b/1.jpg"}, "failed images have no labels"
    assert len(people["a/1.jpg"].masks) == 1
    assert model["a/1.jpg"] == LABELS


def test_counts_and_changes_are_of_what_people_did() -> None:
    same = correction(kept(RING), kept(BLOBS))
    assert (same.count("confirmed"), same.changed) == (2, False)
    other = correction(kept(RING), kept(BLOBS, "deleted"))
    assert (other.count("confirmed"), other.count("deleted"), other.changed) == (1, 1, True)
