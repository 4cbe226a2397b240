"""A scheduler that starts a failed job again meets the same end in a moment, until something is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from data_jobs.label_once import End, _digest, _record, main
from data_jobs.labelling.output import OutputLock, prepare
from everymask.labels.provenance import RunAttempt, RunRecord, read_run, write_run
from everymask.labels.store import LabelStore
from tests.classes.exemplars.pictures import picture_file
from tests.data_jobs.coarse import AMG
from tests.machine import REPOSITORY


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration whose input holds no image."""
    (tmp_path / "empty").mkdir()
    path = tmp_path / "label.yaml"
    path.write_text(f"input: {tmp_path}/empty\noutput: {tmp_path}/labels\n")
    return path


def test_what_ended_for_good_ends_so_again_without_ray(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(file)]) == 2
    assert "holds no image" in capsys.readouterr().err
    (file.parent / "empty" / "late.txt").write_text("now there is something")
    assert main(["--config", str(file)]) == 2
    said = capsys.readouterr().err
    assert "ended with exit code 2 (the input" in said
    assert "change the command or its file, if only in a comment" in said
    assert not ray.is_initialized()


def test_any_edit_of_the_file_and_any_other_option_tries_again(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(file)]) == 2
    file.write_text(file.read_text() + "# the images are there now\n")
    capsys.readouterr()
    assert main(["--config", str(file)]) == 2
    assert "would do so again" not in capsys.readouterr().err
    assert main(["--config", str(file), "--limit", "3"]) == 2
    assert "would do so again" not in capsys.readouterr().err


def test_an_output_that_could_not_be_written_is_tried_again(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = LabelStore(str(file.parent / "labels"))
    prepare(store, overwrite=False)
    with OutputLock(store):
        assert main(["--config", str(file)]) == 2
    assert "another run is writing" in capsys.readouterr().err
    assert main(["--config", str(file)]) == 2
    assert "holds no image" in capsys.readouterr().err


def test_an_attempt_that_was_refused_early_is_not_told_of_the_one_before(file: Path) -> None:
    store = LabelStore(str(file.parent / "labels"))
    attempt = RunAttempt("everymask label", "2026-11-30T00:00:00+00:00", "cpu", {})
    write_run(store, RunRecord({"method": "amg"}, [attempt, attempt]))
    assert main(["--config", str(file)]) == 2
    record = read_run(store)
    assert record is not None
    assert [one.exit_code for one in record.attempts] == [None, None]


@pytest.mark.ray
def test_a_real_run_of_too_many_failures_ends_so_again_in_a_moment(
    file: Path, tiny_sam_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file.parent / "empty" / "good.jpg").write_bytes(picture_file(1, (48, 56)))
    for name in ("bad-1.png", "bad-2.png"):
        (file.parent / "empty" / name).write_bytes(b"this is no image")
    options = ["--model", "vit_b", "--checkpoint", str(tiny_sam_checkpoint), *AMG, "--max-errors", "1"]
    arguments = ["--config", str(file), *options]
    command = [sys.executable, str(REPOSITORY / "data_jobs" / "label_once.py"), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "2 of 3 images failed, more than --max-errors 1" in done.stderr
    store = LabelStore(str(file.parent / "labels"))
    assert sum(1 for _ in store.images()) == 3
    record = read_run(store)
    assert record is not None
    assert [attempt.exit_code for attempt in record.attempts] == [3]

    assert main(arguments) == 3
    assert "ended with exit code 3 (2 of 3 images failed" in capsys.readouterr().err
    assert read_run(store) == record
    assert not ray.is_initialized()


def test_a_run_of_too_many_failures_ends_so_again_and_its_attempt_says_it(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = LabelStore(str(file.parent / "labels"))
    before = RunAttempt("everymask label", "2026-11-30T00:00:00+00:00", "cpu", {})
    write_run(store, RunRecord({"method": "amg"}, [before, replace(before, labelled=2)]))
    arguments = ["--config", str(file)]
    _record(store, End(_digest(arguments), 3, "2026-11-30T00:01:00+00:00", "1 of 2 images failed"), before)
    record = read_run(store)
    assert record is not None
    assert [one.exit_code for one in record.attempts] == [None, 3]
    assert main(arguments) == 3
    assert "ended with exit code 3 (1 of 2 images failed)" in capsys.readouterr().err


def test_options_that_make_no_sense_are_the_commands_to_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--imput", "x"]) == 2
    assert "has no option --imput; did you mean --input?" in capsys.readouterr().err


def test_a_record_that_was_cut_short_holds_nobody_up(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(file)]) == 2
    ended = LabelStore(str(file.parent / "labels")).ended_file
    assert json.loads(ended.read())["exit_code"] == 2
    ended.write(ended.read()[:20])
    capsys.readouterr()
    assert main(["--config", str(file)]) == 2
    assert "holds no image" in capsys.readouterr().err
