"""run.json, given as a configuration file, repeats a run from any directory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_jobs.label_dataset import command as label
from data_jobs.labelling.attempts import repeatable_settings
from data_jobs.relabel import command as relabel


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def write_run_json(folder: Path, settings: dict[str, object]) -> str:
    (folder / "run.json").write_text(json.dumps({"attempts": [{}], "settings": settings}))
    return str(folder / "run.json")


def test_files_and_folders_are_found_from_another_directory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "clip").mkdir()
    given = ["--input", "photos", "--output", "~/labels", "--checkpoint", "w.pt", "--local-root", "a", "../b"]
    given += ["--method", "clip", "--names", "cat,dog", "--clip.model", "clip", "--verify"]
    first = label.parse(given)
    file = write_run_json(here, repeatable_settings(first))
    monkeypatch.chdir(here.parent / "elsewhere")
    again = label.parse(["--config", file])
    assert again.input == str(here / "photos")
    assert again.store.output == str(Path("~/labels").expanduser())
    assert again.model.checkpoint == str(here / "w.pt")
    assert again.addresses.local_root == (str(here / "a"), str(here.parent / "b"))
    assert again.labels == replace(first.labels, clip=replace(first.labels.clip, model=str(here / "clip")))
    assert not again.store.verify
    assert repeatable_settings(again) == repeatable_settings(label.parse(["--config", file]))


def test_a_file_of_names_is_found_from_another_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "names.json").write_text('{"cat": "pet", "dog": "pet"}')
    given = ["--input", "photos", "--output", "labels", "--method", "clip", "--names", "names.json"]
    settings = repeatable_settings(label.parse(given))
    monkeypatch.chdir(here.parent / "elsewhere")
    assert settings["names"] == str(here / "names.json")


def test_addresses_and_models_of_the_hub_stay_as_they_are(here: Path) -> None:
    given = ["--input", "s3://in/photos/", "--output", "gs://out/labels", "--checkpoint", "https://host/w.pt"]
    settings = repeatable_settings(label.parse(given))
    assert (settings["input"], settings["output"]) == ("s3://in/photos", "gs://out/labels")
    assert settings["checkpoint"] == "https://host/w.pt"
    assert settings["clip"]["model"] == "openai/clip-vit-base-patch32"


def test_relabelling_is_repeated_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = relabel.parse(["--embeddings", "kept", "--head", "pets.safetensors", "--output", "labels"])
    file = write_run_json(here, repeatable_settings(first))
    monkeypatch.chdir(here.parent / "elsewhere")
    again = relabel.parse(["--config", file, "--recipe", "paper", "--classes.area-exponent", "0.25"])
    assert (again.embeddings, again.head) == (str(here / "kept"), str(here / "pets.safetensors"))
    assert (again.classes.score, again.classes.area_exponent) == ("probability", 0.25)
