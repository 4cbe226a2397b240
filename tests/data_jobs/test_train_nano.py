from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from data_jobs.train_nano import TrainNanoConfig, main, measure, train
from everymask.backbone.nano import NanoConfig, load_nano
from everymask.backbone.nano.decoder import DecoderConfig
from everymask.backbone.nano.encoder import EncoderConfig
from everymask.backbone.nano.semantics import SemanticsConfig
from everymask.errors import CheckpointError, ConfigurationError
from everymask.nano_training.augment import AugmentConfig
from everymask.nano_training.cache import CacheConfig
from everymask.nano_training.decoding import DecodingConfig
from everymask.nano_training.distillation import DistillationConfig
from everymask.nano_training.semantics import SemanticTrainingConfig
from tests.nano_training.random_teacher import write_random_teacher

SMALL = NanoConfig(
    EncoderConfig(8, (8, 16, 16, 16), (1, 1, 1, 1), 8),
    DecoderConfig((8, 16, 16, 16), width=40, layers=1, stream=16, token=32, blocks=1),
    semantics=SemanticsConfig(channels=12, blocks=1),
)


def write_pictures(data: Path) -> None:
    """Six noisy pictures of two or three coloured boxes in the layout of BSDS500, four to learn from."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for folder in ("images", "segments"):
            (data / "bsds500" / split / folder).mkdir(parents=True)
        for index in range(count):
            labels = np.zeros((80, 112), dtype=np.uint16)
            labels[10:60, 8:50] = 1
            labels[25:75, 60 : 80 + 4 * index] = 2
            colours = rng.integers(0, 256, size=(3, 3))
            image = (colours[labels] + rng.normal(0, 6, size=(80, 112, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(image).save(data / "bsds500" / split / "images" / f"{index}.jpg", quality=95)
            Image.fromarray(labels).save(data / "bsds500" / split / "segments" / f"{index}_0.png")


@pytest.fixture
def config(tmp_path: Path) -> TrainNanoConfig:
    write_pictures(tmp_path / "data")
    return TrainNanoConfig(
        data=tmp_path / "data",
        work=tmp_path / "work",
        output=tmp_path / "out" / "small.safetensors",
        minutes=0.05,
        sources=("bsds500",),
        threads=1,
        model=SMALL,
        distillation=DistillationConfig(view_sides=(128,), crop_px=64, batch=4),
        semantics=SemanticTrainingConfig(views=2, crop_px=64, longest_side=(64, 128), batch=4),
        cache=CacheConfig(views=2, processes=1, augment=AugmentConfig(longest_side=(90, 112))),
        decoding=DecodingConfig(batch=2, prompts=4, evaluate_every=5),
    )


def logged(config: TrainNanoConfig) -> list[dict[str, object]]:
    return [json.loads(line) for line in (config.work / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_recipe_learns_and_goes_on_where_it_stopped(config: TrainNanoConfig) -> None:
    longer = replace(config, minutes=1.0, encoder_share=0.6)
    train(longer)
    rows = logged(longer)
    assert {str(row["stage"]) for row in rows} == {"encoder", "decoder"}
    borders = [float(str(row["boundary"])) for row in rows if "boundary" in row]
    assert borders[-1] < 0.7 * borders[0]
    figures = measure(longer)
    assert figures["bsds500/val nano"]["clicks"] == figures["bsds500/val felzenszwalb"]["clicks"] == 6
    assert figures["bsds500/val felzenszwalb"]["best"] > 0.9
    assert not any(name.startswith("semantics.") for name in load_file(longer.output))  # There is no teacher.

    assert Image.open(longer.work / "learning_curve.png").width > 300

    cells = sorted((longer.work / "cells").rglob("*.npz"))
    stamps = [path.stat().st_mtime_ns for path in cells]
    before = load_file(longer.output)
    train(longer)  # Everything is done: nothing is described or trained again.
    assert [path.stat().st_mtime_ns for path in cells] == stamps
    after = load_file(longer.output)
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.slow
def test_with_a_teacher_there_is_a_semantic_branch(config: TrainNanoConfig, tmp_path: Path) -> None:
    taught = replace(
        config,
        minutes=0.5,
        encoder_share=0.3,
        semantics_share=0.4,
        teacher=write_random_teacher(tmp_path / "teacher.safetensors"),
        extra_pictures=config.data / "bsds500" / "val" / "images",
    )
    train(taught)
    rows = logged(taught)
    assert {str(row["stage"]) for row in rows} == {"encoder", "semantics", "decoder"}
    classes = [float(str(row["classes"])) for row in rows if row["stage"] == "semantics"]
    assert classes[-1] < classes[0]
    shards = sorted((taught.work / "crops").iterdir())
    assert len(shards) == 2  # Views of four annotated and two further pictures.
    assert len(torch.load(shards[0])["stride32"]) == 6
    backbone = load_nano(taught.output, torch.device("cpu"))
    embedding = backbone.embed([np.zeros((40, 50, 3), dtype=np.uint8)])[0]
    assert embedding.features["semantics"].shape == (embedding.canvas.num_cells, 12)

    stamps = [path.stat().st_mtime_ns for path in shards]
    before = load_file(taught.output)
    train(taught)
    assert [path.stat().st_mtime_ns for path in shards] == stamps
    after = load_file(taught.output)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())

    plain = replace(taught, model=replace(SMALL, semantics=None), output=tmp_path / "plain.safetensors")
    train(plain)  # The branch is left out although there is a teacher.
    assert {name for name in before if not name.startswith("semantics.")} == load_file(plain.output).keys()


def test_missing_ground_truth_and_teacher_are_named(config: TrainNanoConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="coco_panoptic"):
        train(replace(config, sources=("coco_panoptic",)))
    with pytest.raises(CheckpointError, match="--teacher"):
        train(replace(config, teacher=tmp_path / "absent.safetensors"))


@pytest.mark.parametrize(
    "change",
    [{"minutes": 0.0}, {"encoder_share": 1.0}, {"semantics_share": 1.0}, {"output": Path("weights.pt")}],
    ids=lambda c: next(iter(c)),
)
def test_a_bad_option_is_named(config: TrainNanoConfig, change: dict[str, object]) -> None:
    flag = next(iter(change)).replace("_", "-")
    with pytest.raises(ConfigurationError, match=f"--{flag}"):
        replace(config, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("extra", "expected"),
    [(["--minutes", "0"], "--minutes"), (["--minutes", "many"], "minutes"), ([], "no ground truth")],
)
def test_the_command_line_exits_2_on_bad_values(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    expected: str,
) -> None:
    arguments = ["--data", str(tmp_path), "--work", str(tmp_path / "w"), "--output", str(tmp_path / "n.safetensors")]
    monkeypatch.setattr(sys, "argv", ["train_nano.py", *arguments, *extra])
    try:
        code = main()
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert expected in capsys.readouterr().err
