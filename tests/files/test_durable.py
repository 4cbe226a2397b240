"""The power may go off between any two system calls: what was reported as written is there, whole, and nothing half."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_jobs.labelling.resume import settle_store
from everymask.files import durable
from everymask.labels.provenance import RunRecord, read_run, write_run
from everymask.labels.rows import to_table
from everymask.labels.store import LabelStore
from tests.labels.examples import images
from tests.power_cut import PowerCut, PowerFailure

CONFIGURATION = {"method": "entities", "input": "/photos"}


def write_a_run(store: LabelStore, reported: list[str]) -> None:
    """A run of two parts, one of which is rewritten; what a caller was told is done."""
    write_run(store, RunRecord(CONFIGURATION))
    reported.append("run.json")
    store.write_part(to_table(images()[:2]), CONFIGURATION)
    reported.extend(["a/1.jpg", "b/1.jpg"])
    store.write_part(to_table(images()[2:]), CONFIGURATION)
    reported.append("c.jpg")
    (mixed,) = [part for part in store.parts() if store.read_columns(part, ["image_id"]).num_rows == 2]
    store.keep_rows(mixed, [True, False])
    reported.remove("b/1.jpg")


def calls_of_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    shim = PowerCut()
    monkeypatch.setattr(durable, "os", shim)
    write_a_run(LabelStore(str(folder)), [])
    monkeypatch.undo()
    return shim.made


@pytest.mark.parametrize("folders", [False, True])
def test_whenever_the_power_goes_what_was_reported_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: bool
) -> None:
    total = calls_of_a_run(tmp_path / "whole", monkeypatch)
    assert total > 20
    for calls in range(total):
        store, reported = LabelStore(str(tmp_path / f"{calls}" / "labels")), list[str]()
        shim = PowerCut(calls)
        monkeypatch.setattr(durable, "os", shim)
        with pytest.raises(PowerFailure):
            write_a_run(store, reported)
        monkeypatch.undo()
        shim.lose_unsynced(folders)

        finished = settle_store(store)
        assert finished.notes == [], f"damaged after {calls} calls"
        kept = {image.image_id: image for image in store.images()} if store.parts() or store.exists() else {}
        assert kept.keys() - {"b/1.jpg"} >= set(reported) - {"run.json", "b/1.jpg"}, f"lost after {calls} calls"
        assert all(image in images() for image in kept.values())
        if "run.json" in reported:
            record = read_run(store)
            assert record is not None
            assert record.config == CONFIGURATION
            assert record.rebuilt is None


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "os", PowerCut())
    durable.write_file(str(tmp_path / "a" / "b"), bytes(range(256)) * 5)
    assert (tmp_path / "a" / "b").read_bytes() == bytes(range(256)) * 5
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
