"""Our SAM 2 equals Meta's `sam2` package on random weights of the size `sam2.1_tiny`: answers, and automatic masks.

`sam2` needs packages that contradict ours, so it runs in an environment of its own, which has everything else from this
one. `EVERYMASK_SAM2_VENV` names its folder; it is made there when it is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig
from everymask.masks.rle import rle_ious
from everymask_cli.selftest.publishers import python_with_sam2
from tests.backbone.official_pictures import SIZES, picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("official")
    np.savez(made / "pictures.npz", **{name: picture(size_hw) for name, size_hw in SIZES.items()})
    script = Path(__file__).with_name("official_run.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    # In a folder of its own, the interpreter does not take this one's modules for packages.
    subprocess.run([python_with_sam2(), script, made], check=True, cwd=made, env=environment, stderr=sys.stderr)
    return made


@pytest.fixture(scope="module")
def backbone(folder: Path) -> PromptableBackbone:
    return load_backbone("sam2.1_tiny", folder / "sam2.1_tiny.pt", "cpu")


@pytest.fixture(scope="module")
def answers(folder: Path) -> Any:
    return torch.load(folder / "answers.pt", weights_only=True)


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value where that exceeds one."""
    return float((ours - theirs).abs().max()) / max(1.0, float(theirs.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("name", SIZES)
def test_answers_are_those_of_sam2(backbone: PromptableBackbone, answers: Any, name: str) -> None:
    embedding = backbone.embed([picture(SIZES[name])])[0]
    wanted = answers[name]
    ours = backbone.decode_points(embedding, wanted["points"])
    full = backbone.full_resolution_logits(embedding, ours.logits.flatten(0, 1))
    worst = {
        "embedding": difference(embedding.features["image"], wanted["features"]),
        # The predictor clips what it returns at low resolution.
        "low-resolution logits": difference(ours.logits.clamp(-32, 32), wanted["low"].flatten(2)),
        "full-resolution logits": difference(full, wanted["full"].flatten(0, 1)),
        "predicted IoU": difference(ours.predicted_iou, wanted["iou"]),
        "tokens": difference(ours.tokens, wanted["tokens"]),
    }
    print(name, ", ".join(f"{what} {value:.2g}" for what, value in worst.items()))
    assert max(worst.values()) < TOLERANCE, worst


@pytest.mark.parametrize("name", SIZES)
def test_automatic_masks_are_those_of_sam2(backbone: PromptableBackbone, folder: Path, name: str) -> None:
    wanted = json.loads((folder / "masks.json").read_text())[name]
    config = AmgConfig(**wanted["settings"])
    found = segment_amg(backbone, backbone.embed([picture(SIZES[name])])[0], config).masks
    theirs = [rle for rle, area in zip(wanted["rles"], wanted["areas"], strict=True) if area]
    best = rle_ious(theirs, [mask.rle for mask in found]).max(axis=1, initial=0)
    agreeing = float((best >= 0.99).mean())
    print(f"{name}: {len(theirs)} masks of sam2, {len(found)} of ours, {agreeing:.1%} with IoU >= 0.99")
    assert len(theirs) >= 5
    assert abs(len(found) - len(theirs)) <= 0.02 * len(theirs)
    assert agreeing >= 0.98
