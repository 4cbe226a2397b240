"""Exports, imports and queues where there is no room: a sentence with the path, and what was there is as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from everymask.errors import OutputError
from everymask.labels.corrections import read_corrections
from everymask.review.importing import import_corrections
from everymask.review.queue import make_queue, write_queue
from tests.formats.exporting import run_export
from tests.formats.shapes import shape_store
from tests.full_disk import full_disk


def test_an_export_to_a_full_disk_is_a_sentence_and_the_old_one_is_whole(tmp_path: Path) -> None:
    store = shape_store(tmp_path)
    folder = tmp_path / "exports"
    folder.mkdir()
    run_export(store, "coco", folder / "o.json")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with full_disk(folder):
        for name, output in (("coco", "o.json"), ("cvat", "c.xml"), ("yolo", "yolo"), ("webdataset", "shards")):
            problem = rf"cannot write .*/{output}: No space left on device; nothing was left there"
            with pytest.raises(OutputError, match=problem):
                run_export(store, name, folder / output, overwrite=True)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_corrections_and_queues_on_a_full_disk_are_a_sentence(tmp_path: Path) -> None:
    store = shape_store(tmp_path)
    run_export(store, "coco", tmp_path / "o.json")
    import_corrections(store, tmp_path / "o.json", "coco")
    before = read_corrections(store)
    content = json.loads((tmp_path / "o.json").read_text())
    content["annotations"] = content["annotations"][1:]
    (tmp_path / "o.json").write_text(json.dumps(content))
    with full_disk(Path(store.corrections.path)):
        with pytest.raises(OutputError, match=r"cannot write .*/corrections/log-.*No space left on device"):
            import_corrections(store, tmp_path / "o.json", "coco")
        with pytest.raises(OutputError, match=r"cannot write .*/q\.json: No space left on device"):
            write_queue(make_queue(store, 3), store.corrections.child("q.json").path)
        assert read_corrections(store) == before
    assert import_corrections(store, tmp_path / "o.json", "coco").masks["deleted"] == 1
