"""Corrections come back from every tool: unchanged exports change nothing, and a change is known for what it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from data_jobs import review
from everymask.labels.corrections import has_corrections, labelled_images, read_corrections
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import decode_mask
from everymask.review.importing import import_corrections
from everymask.review.reviewed import EditingFormat
from everymask.review.tool_files import guess_format
from tests.formats.shapes import shapes
from tests.labels.examples import labels
from tests.review.round_trips import change_json, export_for, submit

WAYS: list[tuple[EditingFormat, str, float | None]] = [
    ("coco", "rle", None),
    ("coco", "uncompressed", None),
    ("coco", "polygon", 0.0),
    ("coco", "polygon", 1.0),
    ("label-studio", "bitmask", None),
    ("label-studio", "brush", None),
    ("label-studio", "polygon", 0.0),
    ("label-studio", "polygon", 1.0),
    ("x-anylabeling", "", 0.0),
    ("x-anylabeling", "", None),
    ("labelme", "", None),
    ("cvat", "", None),
]


@pytest.mark.parametrize("images", [None, "copy"])
@pytest.mark.parametrize(("tool", "segmentation", "tolerance_px"), WAYS)
def test_an_export_that_comes_back_unchanged_changes_nothing(
    store: LabelStore, tmp_path: Path, tool: EditingFormat, segmentation: str, tolerance_px: float | None, images: Any
) -> None:
    before = [(image.image_id, labels) for image, labels in labelled_images(store)]
    path = export_for(store, tool, tmp_path / "x", segmentation, tolerance_px=tolerance_px, images=images)
    submit(path, tool)
    assert guess_format(path) == tool
    summary = import_corrections(store, path, tool)
    assert (summary.images, summary.changed, summary.masks["confirmed"]) == (3, 0, len(shapes()) + 1)
    for (name, old), (image, new) in zip(before, labelled_images(store), strict=True):
        assert name == image.image_id
        assert sorted((str(mask.mask_id), mask.rle["counts"]) for mask in old.masks) == sorted(
            (str(mask.mask_id), mask.rle["counts"]) for mask in new.masks
        )


@pytest.mark.parametrize("tool", ["label-studio", "x-anylabeling", "labelme"])
def test_what_nobody_has_finished_is_no_correction(store: LabelStore, tmp_path: Path, tool: EditingFormat) -> None:
    path = export_for(store, tool, tmp_path)
    assert import_corrections(store, path, tool).images == 0
    assert not has_corrections(store)


def test_a_cancelled_annotation_is_none_and_an_empty_one_is_an_empty_image(store: LabelStore, tmp_path: Path) -> None:
    path = export_for(store, "label-studio", tmp_path)
    submit(path, "label-studio")

    def change(tasks: Any) -> None:
        tasks[1]["annotations"][0]["was_cancelled"] = True
        tasks[2]["annotations"][0]["result"] = []

    change_json(path, change)
    summary = import_corrections(store, path, "label-studio")
    assert (summary.images, summary.masks["deleted"]) == (2, len(shapes()))
    assert set(read_corrections(store)) == {"none.png", "shapes/all.png"}
    assert {image.image_id: len(labels.masks) for image, labels in labelled_images(store)}["shapes/all.png"] == 0


def test_a_box_and_an_ellipse_of_cvat_stay_marked_as_such(store: LabelStore, tmp_path: Path) -> None:
    path = export_for(store, "cvat", tmp_path)
    drawn = (
        '<box label="cat" xtl="61" ytl="30" xbr="69" ybr="38"/><ellipse label="dog" cx="66" cy="48" rx="4" ry="3"/>'
        '<polygon label="cat" points="40,45;44,45;44,49;40,49"/>'
    )
    text, replaced = re.subn(r'(<image [^>]*name="shapes/all.png"[^>]*>)', rf"\1{drawn}", path.read_text())
    assert replaced == 1
    path.write_text(text)
    assert import_corrections(store, path, "cvat").drawn == {"box": 1, "ellipse": 1}

    def marks() -> list[str | None]:
        masks = read_corrections(store)["shapes/all.png"].masks
        assert {mask.drawn_as for mask in masks if mask.action != "added"} == {None}
        return [mask.drawn_as for mask in masks if mask.action == "added"]

    assert marks() == ["box", "ellipse", None]
    assert import_corrections(store, path, "cvat").again == 3
    # Another image of the project was changed, and one more mask of this one, with a drawn one relabelled.
    path.write_text(path.read_text().replace('<box label="cat"', '<box label="dog"'))
    assert import_corrections(store, path, "cvat").images == 1
    assert marks() == ["box", "ellipse", None]


def edit_coco(content: Any) -> Any:
    """Relabel one mask, edit one, delete one, add one; ids of two are lost on the way."""
    annotations = {one["everymask_id"]: one for one in content["annotations"]}
    ours = [one for one in annotations.values() if one["image_id"] == 3]
    ours[0]["category_id"] = 3 - ours[0]["category_id"]
    height, width = ours[5]["segmentation"]["size"]
    ours[5]["segmentation"] = {"size": [height, width], "counts": [1, 2, height * width - 3]}  # "top", another outline
    del ours[1]["everymask_id"], ours[2]["everymask_id"]
    content["annotations"].remove(ours[8])
    square = {"size": [height, width], "counts": [height * 60 + 50, 4, height * width - height * 60 - 54]}
    content["annotations"].append({"id": 99, "image_id": 3, "category_id": 2, "segmentation": square, "iscrowd": 0})
    return content


def test_every_kind_of_change_is_recognised_with_its_history(store: LabelStore, tmp_path: Path) -> None:
    path = export_for(store, "coco", tmp_path)
    change_json(path, edit_coco)
    summary = import_corrections(store, path, "coco")
    assert summary.masks == {"confirmed": 8, "edited": 1, "relabelled": 1, "deleted": 1, "added": 1}
    (machine,) = [image.labels for image in store.images() if image.image_id == "shapes/all.png"]
    assert machine is not None
    correction = read_corrections(store)["shapes/all.png"]
    by_action = {mask.action: mask for mask in correction.masks if mask.action != "confirmed"}
    assert by_action["relabelled"].parent_id == machine.masks[0].mask_id == by_action["relabelled"].mask_id
    assert (machine.masks[0].class_name, by_action["relabelled"].class_name) == ("cat", "dog")
    assert by_action["edited"].parent_id == machine.masks[5].mask_id != by_action["edited"].mask_id
    assert by_action["deleted"].parent_id == machine.masks[8].mask_id
    assert by_action["added"].parent_id is None
    labels = {image.image_id: seen for image, seen in labelled_images(store)}["shapes/all.png"]
    assert len(labels.masks) == len(shapes())
    assert {mask.score for mask in labels.masks} == {1.0}
    assert len({mask.mask_id for mask in labels.masks}) == len(shapes())
    (added,) = [mask for mask in labels.masks if mask.mask_id == by_action["added"].mask_id]
    assert decode_mask(added.rle)[50:54, 60].all()
    assert (added.area, added.box_xyxy, added.class_name) == (4, (60, 50, 61, 54), "dog")
    uncorrected = {image.image_id: seen for image, seen in labelled_images(store, corrections=False)}
    assert uncorrected["shapes/all.png"] == machine


def test_a_second_round_keeps_the_history_of_the_first(store: LabelStore, tmp_path: Path) -> None:
    first = export_for(store, "coco", tmp_path / "first")
    change_json(first, edit_coco)
    import_corrections(store, first, "coco")
    before = read_corrections(store)["shapes/all.png"]
    second = export_for(store, "coco", tmp_path / "second")
    assert import_corrections(store, second, "coco").again == 3
    after = read_corrections(store)["shapes/all.png"]
    assert {(mask.action, mask.mask_id, mask.parent_id) for mask in after.masks} == {
        (mask.action, mask.mask_id, mask.parent_id) for mask in before.masks
    }


def another_outline(content: Any, file_name: str) -> Any:
    """COCO in which a person has redrawn every mask of an image."""
    (image,) = [image for image in content["images"] if image["file_name"] == file_name]
    height, width = image["height"], image["width"]
    for one in content["annotations"]:
        if one["image_id"] == image["id"]:
            one["segmentation"] = {"size": [height, width], "counts": [5, 200, height * width - 205]}
    return content


def test_a_project_is_imported_week_after_week(store: LabelStore, tmp_path: Path, capsys: Any) -> None:
    path = export_for(store, "coco", tmp_path)
    change_json(path, lambda content: another_outline(content, "portrait.jpg"))
    first = import_corrections(store, path, "coco")
    assert (first.images, first.masks["edited"], first.again) == (3, 1, 0)
    before, files = read_corrections(store), [file.name for file in store.corrections.entries()]
    again = import_corrections(store, path, "coco")
    assert (again.images, again.again, again.path, again.refused) == (0, 3, None, ())
    assert (read_corrections(store), [file.name for file in store.corrections.entries()]) == (before, files)
    assert review.import_(["--labels", store.uri, "--from", str(path)]) == 0
    assert capsys.readouterr().out == "already imported: 3 images came back unchanged\n"

    # The project goes on: masks of another image are deleted, the redrawn one stays as it is.
    change_json(path, lambda content: content | {"annotations": content["annotations"][:1]})
    later = import_corrections(store, path, "coco")
    assert (later.images, later.again, later.masks["deleted"]) == (1, 2, len(shapes()))
    assert read_corrections(store)["portrait.jpg"] == before["portrait.jpg"]


def test_what_was_deleted_may_come_back(store: LabelStore, tmp_path: Path) -> None:
    path = export_for(store, "coco", tmp_path)
    whole = path.read_text()
    change_json(path, lambda content: content | {"annotations": []})
    assert import_corrections(store, path, "coco").masks["deleted"] == len(shapes()) + 1
    path.write_text(whole)
    back = import_corrections(store, path, "coco")
    assert (back.masks["confirmed"], back.masks["deleted"], back.masks["added"]) == (len(shapes()) + 1, 0, 0)


def test_a_name_may_come_back_in_another_unicode_form(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "store"))
    store.write_part(to_table([ImageRow("S\u00fcd.jpg", "/p/S\u00fcd.jpg", labels(), None, "ab" * 32, 0.1)]))
    path = export_for(store, "coco", tmp_path)
    change_json(path, lambda content: content | {"images": [content["images"][0] | {"file_name": "Su\u0308d.jpg"}]})
    assert import_corrections(store, path, "coco").images == 1
    assert read_corrections(store).keys() == {"S\u00fcd.jpg"}
