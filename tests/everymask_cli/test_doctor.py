"""`everymask doctor` says what is there and what to do about what is not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from everymask.backbone.models import MODELS, WeightSource
from everymask.backbone.weights import resolve_weights
from everymask_cli import doctor
from everymask_cli.main import main
from tests.files.web import website


def test_it_names_every_model_and_the_one_for_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    assert all(f"model {name} " in report for name in MODELS)
    assert "for this machine" in report
    assert all(name in report for name in ("torch", "ray", "memory", "disk, here"))


@pytest.mark.parametrize("images", ["examples/images", "IMAGES"])
def test_the_next_line_names_a_folder_that_is_there(
    images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if images != "IMAGES":
        (tmp_path / images).mkdir(parents=True)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith(f"next: everymask label --input {images} --output runs/first\n")


def test_its_findings_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"subject", "state", "text", "remedy"} == set(found[0])


def test_what_is_missing_ends_with_1_and_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "NEEDED", ("no-such-package",))
    monkeypatch.setattr(doctor, "OPTIONAL", (("no-such-extra", "nothing", "ui"),))
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    (line,) = [index for index, text in enumerate(lines) if text.startswith("! no-such-package")]
    assert lines[line + 1].strip() == "→ pip install everymask"
    assert any("pip install 'everymask[ui]'" in text for text in lines)


def test_weights_that_are_here_are_told_from_those_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERYMASK_CACHE", str(tmp_path / "cache"))
    with website() as site:
        source = WeightSource(site.serve("/sam_vit_b.pth", b"weights"))
        resolve_weights(source, quiet=True)
    monkeypatch.setattr(doctor, "MODELS", {**MODELS, "vit_b": replace(MODELS["vit_b"], weights=source)})
    texts = {finding.subject: finding.text for finding in doctor.findings()}
    assert texts["model vit_b"].startswith("is here")
    assert texts["model vit_h"].startswith("fetched on first use")


def test_a_folder_that_cannot_be_written_to_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: Path(path) != tmp_path)
    monkeypatch.chdir(tmp_path)
    (here,) = [finding for finding in doctor.findings() if finding.subject == "disk, here"]
    assert here.state == "missing"
    assert here.remedy


def test_little_shared_memory_is_a_note_with_the_option_of_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(total=64 << 20))
    (shared,) = [finding for finding in doctor.findings() if finding.subject == "shared memory"]
    assert (shared.state, shared.remedy) == ("note", "docker run --shm-size 4g")
