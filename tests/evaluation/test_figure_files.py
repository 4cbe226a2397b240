"""Figures in documents are those that a command wrote, of the model that ships."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks.tables import REPOSITORY, documents, filled, made_table, sources
from everymask.backbone.registry import load_backbone
from everymask.errors import InputError
from everymask.evaluation.figure_files import read_figures, shown_command, write_figures

RESULTS = sorted((REPOSITORY / "benchmarks" / "results").glob("*.json"))
WITHOUT_WEIGHTS = (
    {
        "concept-memory": "random weights",
        "gpu-budget": "operations of an architecture, counted",
        "polygon-shapes": "no model: drawn masks",
        "sam-decoder": "random weights",
        "sam-decoder-avx2": "random weights",
    }
    | {
        f"exports-{name}": "no model: drawn masks"
        for name in ("memory", "memory-outlines", "processes", "processes-avx2", "speed", "speed-avx2")
    }
    | {
        f"scaling-{name}": "no model, or one that computes nothing"
        for name in ("listing", "planned", "resumed", "shards", "tars", "whole")
    }
)


def test_every_table_is_what_its_file_says() -> None:
    stale = [str(page) for page in documents() if filled(text := page.read_text(encoding="utf-8")) != text]
    assert stale == [], "run: python benchmarks/tables.py"
    assert {source for page in documents() for source in sources(page.read_text(encoding="utf-8"))} == set(RESULTS)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_figures_are_of_the_weights_that_ship(path: Path) -> None:
    shipped = load_backbone("nano", None, "cpu").weights_sha256
    assert read_figures(path)["weights"].get("nano", shipped) == shipped, "measure again: its command is in the file"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_file_says_how_it_was_made(path: Path) -> None:
    content = read_figures(path)
    assert re.fullmatch(r"[0-9a-f]{40}", content["commit"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", content["date"])
    assert content["command"].startswith(("everymask ", "python "))
    assert content["processor"]
    assert content["weights"] or path.stem in WITHOUT_WEIGHTS
    assert not re.search(r"(^|[\s=])/", content["command"]), "it names a folder of one machine; set EVERYMASK_DATA"


def test_what_was_written_is_read_and_shown(tmp_path: Path) -> None:
    write_figures(tmp_path / "x.json", {"nano": {"clicks": 12, "best": 0.5649}}, {"nano": "ab" * 32})
    table = made_table(tmp_path / "x.json", ["clicks", "best"])
    assert table.splitlines()[:3] == ["| | clicks | best |", "| --- | --- | --- |", "| nano | 12 | 0.56 |"]
    assert "weights: nano abababababab." in table
    content = read_figures(tmp_path / "x.json")
    assert content["heads"] == {}
    checkout = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert content["commit"] == (checkout.stdout.strip() or None)


def test_a_figure_that_rounds_to_nothing_has_no_sign(tmp_path: Path) -> None:
    write_figures(tmp_path / "x.json", {"nano": {"none": -0.004, "some": -0.006}}, {})
    assert "| nano | 0.00 | -0.01 |" in made_table(tmp_path / "x.json", ["none", "some"])


def test_the_folder_of_ground_truth_is_data_wherever_it_is() -> None:
    argv = ["/bin/everymask", "evaluate", "clicks", "--path", "/somewhere/data/coco", "--json", "out file.json"]
    assert (
        shown_command(argv, "/somewhere/data/") == "everymask evaluate clicks --path DATA/coco --json 'out file.json'"
    )
    assert shown_command(["benchmarks/serve.py"], None) == "python benchmarks/serve.py"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", json.dumps({"figures": {}}), json.dumps({"figures": 3, "weights": {}})]
)
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match="is no file of figures"):
        read_figures(tmp_path / "x.json")
