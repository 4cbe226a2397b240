"""The labelling job by names, with a small SAM 3: rows that hold presence, a sample first, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image

from data_jobs.estimate import command as estimate
from data_jobs.label_dataset import command as label
from everymask import LabelConfig
from everymask import label as label_one
from everymask.classes.config import ConceptsConfig
from everymask.labelling.names import with_names
from everymask.labels.provenance import read_run
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore
from tests.backbone.sam3.tiny import save_tiny_sam3

NAMES = "# what is looked for\nanimals: cat, dog, -toy dog\nbus\n"


def rows_of(output: Path) -> dict[str, ImageRow]:
    return {row.image_id: row for row in LabelStore(str(output)).images()}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--names", "cat,,dog"], "one of the names is empty; write a word, or leave out a comma"),
        (["--names", ""], "one of the names is empty"),
        (["--names", "School Bus,school  bus"], "the names 'School Bus' and 'school  bus' are the same but for case"),
        (["--names", "cat,-Cat"], "the names 'cat' and 'Cat' are the same"),
        (["--names", "animals=cat+dog,DOG"], "the names 'dog' and 'DOG' are the same"),
        (["--names=-cat"], "no class is named"),
        (["--names", "missing.txt"], "the names in missing.txt cannot be read"),
        (["--names", "cat", "--head", "pets.safetensors"], "a class head is of no use to method concepts"),
        ([], "method concepts needs names: --names cat,dog"),
        (["--names", "cat", "--model", "nano"], "model nano knows no concepts; use --model sam3, or --method clip"),
    ],
)
@pytest.mark.parametrize("command", [label, estimate])
def test_what_can_never_be_labelled_is_one_sentence_before_anything_starts(
    command: object, given: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    places = ["--input", str(tmp_path / "photos"), "--output", str(tmp_path / "out")]
    assert command(["--method", "concepts", "--model", "sam3", *places, *given]) == 2  # type: ignore[operator]
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert said.count("\n") == 0
    assert not ray.is_initialized()
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_sample_and_then_all_are_labelled_by_a_file_of_names(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = save_tiny_sam3(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(6):
        blocks = np.random.default_rng(seed).integers(0, 255, (3, 4, 3), np.uint8)
        Image.fromarray(blocks).resize((96, 40), Image.Resampling.NEAREST).save(photos / f"{seed}.png")
    (photos / "broken.png").write_bytes(b"no picture")
    (tmp_path / "names.txt").write_text(NAMES)
    output = tmp_path / "labels"
    monkeypatch.chdir(tmp_path)
    given = ["--method", "concepts", "--model", "sam3", "--checkpoint", str(weights), "--device", "cpu"]
    given += ["--actors", "1", "--concepts.score-thresh", "0.2", "--previews", "0"]
    given += ["--input", str(photos), "--output", str(output)]
    # Only the model's own vocabulary knows how many tokens a name has.
    assert label([*given, "--names", "cat," + "x" * 80]) == 2
    assert "has 82 tokens with the two marks around it, SAM 3 reads 32; say it in" in capsys.readouterr().err
    assert not list(output.glob("labels/*"))

    assert estimate([*given, "--names", "names.txt", "--sample", "4"]) == 0
    assert "estimate from 4 of 7 images" in capsys.readouterr().out
    sampled = rows_of(output)
    assert len(sampled) == 4
    assert label([*given, "--names", "names.txt"]) == 0
    rows = rows_of(output)
    assert {name: rows[name] for name in sampled} == sampled
    assert (len(rows), rows["broken.png"].labels) == (7, None)
    record = read_run(LabelStore(str(output)))
    assert record is not None
    assert record.config["class_names"] == ["animals", "bus"]
    config = with_names(LabelConfig("concepts", concepts=ConceptsConfig(score_thresh=0.2)), "names.txt")
    for seed in range(6):
        found = rows[f"{seed}.png"].labels
        expected = label_one(photos / f"{seed}.png", _model(weights), config=config)
        assert found is not None
        assert found.masks
        assert [(mask.rle, mask.class_name) for mask in found.masks] == [
            (mask.rle, mask.class_name) for mask in expected.masks
        ]
        assert found.presence == pytest.approx(expected.presence, abs=1e-6)
        assert found.presence is not None
        for mask in found.masks:
            assert mask.class_id is not None
            assert mask.score <= found.presence[mask.class_id] + 1e-6, "the score is the confidence times the presence"
            assert (mask.predicted_iou, mask.class_name != "toy dog") == (None, True)


def _model(weights: Path) -> object:
    from everymask import load_model

    return load_model("sam3", weights, "cpu")
