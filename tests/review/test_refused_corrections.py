"""Nonsense that comes back from a tool is one sentence, and what is sound beside it is imported."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_jobs import review
from everymask.errors import EverymaskError, InputError
from everymask.labels.corrections import has_corrections, read_corrections
from everymask.labels.store import LabelStore
from everymask.review.importing import import_corrections
from everymask.review.reviewed import EditingFormat, crosses_itself
from tests.review.round_trips import SUFFIX, change_json, export_for, submit

BOW = [[10.0, 10.0], [30.0, 30.0], [30.0, 10.0], [10.0, 30.0]]


def test_a_polygon_that_crosses_itself_is_refused(store: LabelStore, tmp_path: Path) -> None:
    path = export_for(store, "x-anylabeling", tmp_path)
    submit(path, "x-anylabeling")

    def cross(content: Any) -> None:
        if content["shapes"]:
            content["shapes"][-1]["points"] = BOW

    change_json(path, cross)
    summary = import_corrections(store, path, "x-anylabeling")
    assert len(summary.refused) == 2
    assert all("crosses itself" in sentence for sentence in summary.refused)
    assert read_corrections(store).keys() == {"none.png"}


def test_crossing_is_told_from_touching() -> None:
    assert crosses_itself(tuple(np.ravel(BOW).tolist()))
    assert not crosses_itself((0, 0, 4, 0, 4, 4, 0, 4))
    cut = (0, 0, 9, 0, 9, 9, 0, 9, 0, 0, 3, 3, 3, 6, 6, 6, 6, 3, 3, 3)
    assert not crosses_itself(cut)


def without_store_ids(content: Any) -> Any:
    """COCO whose masks have ids of another store."""
    for one in content["annotations"]:
        one["everymask_id"] = "0" * 24
    return content


def of_other_images(content: Any) -> Any:
    """COCO of images that the store does not have."""
    for image in content["images"]:
        image["file_name"] = "elsewhere.png"
    return content


def of_another_size(content: Any) -> Any:
    """COCO of resized images."""
    for image in content["images"]:
        image["height"], image["width"] = 30, 40
    for one in content["annotations"]:
        one["segmentation"] = {"size": [30, 40], "counts": [100, 100, 1000]}
    return content


def with_another_class(content: Any) -> Any:
    """COCO with a class that the store does not know."""
    content["categories"][0]["name"] = "unicorn"
    return content


def with_a_wrong_mask(content: Any) -> Any:
    """COCO with run lengths that do not fill the image."""
    content["annotations"][0]["segmentation"]["counts"] = [1, 2, 3]
    return content


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (of_other_images, "the image elsewhere.png is not in the store"),
        (lambda content: {"images": []}, "has no proper 'categories'"),
    ],
)
def test_what_does_not_belong_is_one_sentence_and_nothing_is_imported(
    store: LabelStore, tmp_path: Path, change: Callable[[Any], Any], problem: str
) -> None:
    path = export_for(store, "coco", tmp_path)
    change_json(path, change)
    with pytest.raises(InputError, match=re.escape(problem)) as refusal:
        import_corrections(store, path, "coco")
    assert "\n" not in str(refusal.value)
    assert not has_corrections(store)


@pytest.mark.parametrize(
    ("change", "problem", "images"),
    [
        (without_store_ids, "has an id of this store", {"none.png"}),
        (with_another_class, "the class 'unicorn', which the store does not know", {"none.png"}),
        (of_another_size, "the image was resized or turned", {"none.png"}),
        (with_a_wrong_mask, "annotation 1 has a mask that cannot be read", {"none.png", "shapes/all.png"}),
    ],
)
def test_one_image_that_does_not_fit_is_reported_and_the_others_are_imported(
    store: LabelStore, tmp_path: Path, change: Callable[[Any], Any], problem: str, images: set[str], capsys: Any
) -> None:
    path = export_for(store, "coco", tmp_path)
    change_json(path, change)
    assert review.import_(["--labels", store.uri, "--from", str(path)]) == 3
    assert problem in capsys.readouterr().err
    assert read_corrections(store).keys() == images


@pytest.mark.parametrize("tool", SUFFIX)
def test_half_a_file_is_refused(store: LabelStore, tmp_path: Path, tool: EditingFormat) -> None:
    path = export_for(store, tool, tmp_path)
    submit(path, tool)
    for file in [path] if path.is_file() else path.rglob("*.json"):
        file.write_text(file.read_text()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=r"is not complete (JSON|XML)"):
        import_corrections(store, path, tool)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"PK\x03\x04bomb", "is a ZIP archive; unpack it"),
        (b'<!DOCTYPE x [<!ENTITY a "aa">]><annotations/>', "declares a document type"),
    ],
)
def test_archives_and_entities_are_not_opened(store: LabelStore, tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "bad.xml").write_bytes(content)
    with pytest.raises(EverymaskError, match=problem):
        import_corrections(store, tmp_path / "bad.xml", "cvat")
