from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from data_jobs.train_nano import TrainNanoConfig, command, measure, train
from everymask.backbone.nano import NanoConfig
from everymask.backbone.nano.decoder import DecoderConfig
from everymask.backbone.nano.encoder import EncoderConfig
from everymask.errors import ConfigurationError
from everymask.research.nano_training.augment import AugmentConfig
from everymask.research.nano_training.borders import BorderConfig
from everymask.research.nano_training.cache import CacheConfig
from everymask.research.nano_training.decoding import DecodingConfig

SMALL = NanoConfig(
    EncoderConfig(8, 16, 8),
    DecoderConfig((24, 48, 120, 352, 8), width=40, layers=1, stream=16, token=32, blocks=1),
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
        borders=BorderConfig(crop_px=64, batch=4, places=24),
        cache=CacheConfig(views=2.0, processes=1, augment=AugmentConfig(longest_side=(90, 112))),
        decoding=DecodingConfig(batch=2, prompts=4, evaluate_every=5),
    )


def logged(config: TrainNanoConfig) -> list[dict[str, object]]:
    return [json.loads(line) for line in (config.work / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_recipe_learns_and_goes_on_where_it_stopped(config: TrainNanoConfig) -> None:
    longer = replace(config, minutes=1.0, borders_share=0.6)
    train(longer)
    rows = logged(longer)
    assert {str(row["stage"]) for row in rows} == {"borders", "decoder"}
    borders = [float(str(row["boundary"])) for row in rows if "boundary" in row]
    assert borders[-1] < 0.7 * borders[0]
    figures = measure(longer)
    assert figures["bsds500/val nano"]["clicks"] == figures["bsds500/val felzenszwalb"]["clicks"] == 6
    assert figures["bsds500/val felzenszwalb"]["best"] > 0.9
    assert not any("trunk" in name for name in load_file(longer.output))

    assert Image.open(longer.work / "learning_curve.png").width > 300

    cells = sorted((longer.work / "cells").rglob("*.npz"))
    stamps = [path.stat().st_mtime_ns for path in cells]
    before = load_file(longer.output)
    train(longer)  # Everything is done: nothing is described or trained again.
    assert [path.stat().st_mtime_ns for path in cells] == stamps
    after = load_file(longer.output)
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_missing_ground_truth_is_named(config: TrainNanoConfig) -> None:
    with pytest.raises(ConfigurationError, match="coco_panoptic"):
        train(replace(config, sources=("coco_panoptic",)))


@pytest.mark.parametrize(
    "change",
    [{"minutes": 0.0}, {"borders_share": 1.0}, {"output": Path("weights.pt")}],
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
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    expected: str,
) -> None:
    arguments = ["--data", str(tmp_path), "--work", str(tmp_path / "w"), "--output", str(tmp_path / "n.safetensors")]
    try:
        code = command([*arguments, *extra])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert expected in capsys.readouterr().err
