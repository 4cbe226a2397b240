"""`everymask report` says of any store what its runs spent and what stands out, from any directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_jobs.report import command
from everymask.labels.overview import Overview
from everymask.labels.provenance import RunAttempt, RunRecord, write_run
from everymask.labels.rows import to_table
from everymask.labels.run_summary import RunSummary
from everymask.labels.store import LabelStore
from tests.labels.examples import images

SPENT = RunSummary(2, {"read": 1.0, "embed": 30.0}, 50.0, 40.0, 0.5, Overview(), 50.0 * 0.5 / 3600)


def store_at(folder: Path) -> LabelStore:
    store = LabelStore(str(folder))
    store.write_part(to_table(images()))
    return store


def attempt(summary: RunSummary | None, price: float | None = None) -> RunAttempt:
    tree = None if summary is None else summary.as_tree(price)
    return RunAttempt("everymask label", "2026-11-30T00:00:00+00:00", "cuda", {}, 60.0, 2, tree)


def test_attempts_add_up_and_one_that_was_killed_is_not_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_at(tmp_path / "labels")
    attempts = [attempt(SPENT, 3.6), attempt(None), attempt(SPENT, 3.6)]
    write_run(store, RunRecord({"method": "amg"}, attempts))
    assert command([store.uri]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1:6] == [
        "  seconds by stage, of 4 images: read 2, embed 60",
        "  GPUs computed for 80% of the workers' 100 s; 0.0139 GPU-hours, cost 0.05",
        "  1 × the file is empty: c.jpg",
        "  slowest: a/1.jpg 0.5 s, b/1.jpg 0.25 s",
        "  what 1 other attempt spent is not known: they did not come to their end",
    ]
    assert command([store.uri, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["summary"]
    assert told["cost"] == pytest.approx(0.05)
    assert told["errors"][0]["examples"] == [{"image_id": "c.jpg", "error": "the file is empty (0 bytes)"}]


def test_a_store_without_a_record_tells_what_its_rows_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command([store_at(tmp_path / "labels").uri]) == 0
    said = capsys.readouterr().out
    assert "  1 × the file is empty: c.jpg\n  slowest: a/1.jpg 0.5 s" in said
    assert "seconds by stage" not in said
    assert "not known" not in said


def test_several_stores_that_open_as_one_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for share in ("1-of-2", "2-of-2"):
        write_run(store_at(tmp_path / share), RunRecord({"method": "amg"}, [attempt(SPENT)]))
    assert command([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "seconds by stage, of 4 images: read 2, embed 60" in said
    assert "2 × the file is empty" in said


def test_a_sample_of_another_store_is_not_taken_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = store_at(tmp_path / "one" / "labels"), store_at(tmp_path / "two" / "labels")
    monkeypatch.chdir(tmp_path)
    assert command([first.uri, "--sample", "2"]) == 0
    capsys.readouterr()
    assert command([second.uri]) == 0
    said = capsys.readouterr().out
    assert f"sample.json is a sample of {first.uri}, not of this store" in said
    assert "judged" not in said
    assert command([second.uri, "--sample", "2"]) == 2
    assert f"sample.json is there already, of {first.uri}; name another --queue" in capsys.readouterr().err
    assert command(["one/labels"]) == 0, "the same store, by another path"
    assert "none of the images drawn at random was judged yet" in capsys.readouterr().out
