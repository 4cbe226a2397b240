"""What stands in the store, its exports and pictures once corrections are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_jobs import label_dataset, review
from data_jobs.labelling.preview import write_preview
from everymask.images.decoding import ImageLimits
from everymask.labels.address_policy import address_policy
from everymask.labels.provenance import RunRecord, write_run
from everymask.labels.store import LabelStore
from everymask.review.importing import import_corrections
from tests.formats.exporting import run_export
from tests.formats.shapes import shapes
from tests.review.round_trips import change_json, export_for


def test_corrected_labels_are_exported_unless_the_machines_are_wanted(store: LabelStore, tmp_path: Path) -> None:
    path = export_for(store, "coco", tmp_path / "first")
    change_json(path, lambda content: content | {"annotations": []})
    import_corrections(store, path, "coco")
    assert run_export(store, "coco", tmp_path / "corrected.json").masks == 0
    assert run_export(store, "coco", tmp_path / "machine.json", corrections=False).masks == len(shapes()) + 1


def test_the_loop_as_a_user_types_it(store: LabelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue = tmp_path / "queue.json"
    assert review.queue(["--labels", store.uri, "--most", "2", "--output", str(queue)]) == 0
    assert "2 of 3 images" in capsys.readouterr().out
    page = queue.with_suffix(".html").read_text()
    assert f"<code>everymask browse {store.uri} --queue {queue}</code>" in page
    assert page.index("none.png") < page.index("shapes/all.png")
    path = export_for(store, "coco", tmp_path, image_ids=frozenset({"none.png", "shapes/all.png"}))
    change_json(path, lambda content: content | {"annotations": []})
    assert review.import_(["--labels", store.uri, "--from", str(path)]) == 0
    assert "2 images finished by a person (coco), 1 changed; masks: 0 confirmed" in capsys.readouterr().out
    assert review.report(["--labels", store.uri, "--queue", str(queue)]) == 0
    assert "chosen by" in capsys.readouterr().out
    assert review.import_(["--labels", store.uri, "--from", str(tmp_path / "nothing")]) == 2
    assert "is not there" in capsys.readouterr().err


def test_labels_that_people_corrected_are_not_overwritten(
    store: LabelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(store, RunRecord({}))
    import_corrections(store, export_for(store, "coco", tmp_path), "coco")
    before = {path: path.read_bytes() for path in Path(store.uri).rglob("*.parquet")}
    arguments = ["--input", str(tmp_path / "pictures"), "--output", store.uri, "--overwrite"]
    assert label_dataset.command(arguments) == 2
    assert "label anew with --update, which keeps them" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path(store.uri).rglob("*.parquet")} == before


def test_pictures_show_corrected_labels(store: LabelStore, tmp_path: Path) -> None:
    policy = address_policy(store)
    write_preview(store, ImageLimits(), 8, policy)
    page = Path(store.uri) / "preview" / "index.html"
    assert "<span>10 masks</span>" in page.read_text()
    path = export_for(store, "coco", tmp_path)
    change_json(path, lambda content: content | {"annotations": []})
    import_corrections(store, path, "coco")
    write_preview(store, ImageLimits(), 8, policy)
    assert "<span>0 masks</span>" in page.read_text()
