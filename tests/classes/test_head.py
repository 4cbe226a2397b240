"""Class heads: their file, their answers, and what they refuse."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from everymask.classes.features import MaskFeatures
from everymask.classes.head import ClassHead, HeadSpec, check_backbone, load_head, save_head
from everymask.errors import ConfigurationError, HeadMismatchError, OutputError

SPEC = HeadSpec(
    ("cat", "dog"), "nano", "c" * 64, "token+pooled", token_dim=4, feature_dim=5, hidden_dim=8, score_thresh=0.25
)


def masks_described_by(token: int, pooled: int, crop: int = 0) -> MaskFeatures:
    """Three masks with descriptions of these lengths."""
    generator = np.random.default_rng(0)
    parts = [generator.normal(size=(3, length)).astype(np.float16) for length in (token, pooled, crop)]
    return MaskFeatures(*parts)


@pytest.fixture
def head() -> ClassHead:
    torch.manual_seed(0)
    head = ClassHead(SPEC)
    head.standardise(torch.randn(50, 9) * 3 + 1)
    return head.eval()


def test_a_saved_head_comes_back_with_its_spec_and_answers(head: ClassHead, tmp_path: Path) -> None:
    save_head(head, tmp_path / "new" / "pets.safetensors")
    loaded = load_head(tmp_path / "new" / "pets.safetensors")

    assert loaded.spec == SPEC
    features = masks_described_by(token=4, pooled=5)
    torch.testing.assert_close(loaded.probabilities(features), head.probabilities(features))
    assert loaded.probabilities(features).shape == (3, 3)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pets.safetensors"]


def test_no_mask_gives_no_probability(head: ClassHead) -> None:
    nothing = np.zeros((0, 0), np.float16)
    assert head.probabilities(MaskFeatures(nothing, nothing, nothing)).shape == (0, 3)


def test_a_head_reads_the_descriptions_it_was_trained_on() -> None:
    features = masks_described_by(token=4, pooled=5, crop=6)
    for kind, length in (("token", 4), ("token+pooled", 9), ("crop", 6), ("token+crop", 10)):
        spec = replace(SPEC, features=kind, crop_dim=6)
        assert spec.input_dim == features.inputs(kind).shape[1] == length
        assert ClassHead(spec).probabilities(features).shape == (3, 3)


def test_a_head_that_reads_crops_says_so_where_nobody_looked() -> None:
    head = ClassHead(replace(SPEC, features="token+crop", crop_dim=6))
    with pytest.raises(HeadMismatchError, match="describer crop"):
        head.probabilities(masks_described_by(token=4, pooled=5))


def test_inputs_are_standardised_by_the_training_masks() -> None:
    head = ClassHead(HeadSpec(("a",), "nano", "", "token", 2, 0))
    inputs = torch.tensor([[0.0, 7.0], [4.0, 7.0]])
    head.standardise(inputs)
    assert head.input_mean.tolist() == [2.0, 7.0]
    assert head.input_deviation.tolist() == [2.0, 1.0]


def test_the_head_is_a_four_layer_perceptron() -> None:
    assert sum(isinstance(layer, torch.nn.Linear) for layer in ClassHead(SPEC).layers) == 4


def truncated(data: bytes) -> bytes:
    return data[:-20]


def renamed_format(data: bytes) -> bytes:
    return safetensors.torch.save(safetensors.torch.load(data), {"format": "something else"})


def later_version(data: bytes) -> bytes:
    return safetensors.torch.save(safetensors.torch.load(data), {"format": "everymask class head", "version": "99"})


def other_shape(data: bytes) -> bytes:
    return described(data, hidden_dim=16)


def described(data: bytes, **fields: Any) -> bytes:
    """The file with other words about itself."""
    spec = {**SPEC.__dict__, **fields}
    metadata = {"format": "everymask class head", "version": "1", "head": json.dumps(spec)}
    return safetensors.torch.save(safetensors.torch.load(data), metadata)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "damaged"),
        (lambda data: b"", "damaged"),
        (lambda data: b"\x89PNG not a head at all", "damaged"),
        (renamed_format, "no class head"),
        (later_version, "version 99"),
        (other_shape, "does not fit together"),
        (lambda data: described(data, classes=["\ud800", "b"]), "which no text can show"),
        (lambda data: described(data, classes=["a\0", "b"]), "which no text can show"),
        (lambda data: described(data, classes=["a" * 10**6, "b"]), "does not fit together"),
        (lambda data: described(data, backbone="\ud800"), "does not fit together"),
    ],
)
def test_a_damaged_file_is_one_clear_sentence(
    head: ClassHead, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "head.safetensors"
    save_head(head, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigurationError, match=message):
        load_head(path)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process's peak memory, and forgets it when asked to")
@pytest.mark.parametrize(
    "claim",
    [
        {"hidden_dim": 20_000},
        {"token_dim": 10**8},
        {"classes": [f"class {i}" for i in range(10**5)], "hidden_dim": 4096},
    ],
    ids=lambda claim: "-".join(claim),
)
def test_a_small_file_that_claims_to_be_large_costs_no_memory(tmp_path: Path, claim: dict[str, object]) -> None:
    fields = {**asdict(SPEC), **claim}
    metadata = {"format": "everymask class head", "version": "1", "head": json.dumps(fields)}
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "bomb.safetensors", metadata)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_mib()
    with pytest.raises(ConfigurationError, match="does not fit together"):
        load_head(tmp_path / "bomb.safetensors")
    assert peak_mib() - before < 100


def peak_mib() -> float:
    """The most memory this process has held since it was told to forget."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def test_a_file_beyond_any_head_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "vast.safetensors"
    with file.open("wb") as output:
        output.truncate(2**34)
    with pytest.raises(ConfigurationError, match="17,179,869,184 bytes"):
        load_head(file)


def test_many_repeated_names_are_refused_quickly() -> None:
    with pytest.raises(ConfigurationError, match="named twice"):
        replace(SPEC, classes=tuple(f"class {i}" for i in range(10**5)) * 2)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        load_head(tmp_path / "nowhere.safetensors")


def test_a_head_with_nan_is_not_written(head: ClassHead, tmp_path: Path) -> None:
    with torch.no_grad():
        head.layers[0].weight[0, 0] = torch.nan
    with pytest.raises(ConfigurationError, match="NaN"):
        save_head(head, tmp_path / "head.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_an_older_head_survives_a_failed_write(head: ClassHead, tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "kept").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        save_head(head, target)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(("backbone", "sha256"), [("vit_b", "c" * 64), ("nano", "d" * 64)])
def test_another_backbone_or_other_weights_are_refused(backbone: str, sha256: str) -> None:
    with pytest.raises(HeadMismatchError, match="train the head again"):
        check_backbone(SPEC, backbone, sha256)


def test_classes_must_be_named_once() -> None:
    with pytest.raises(ConfigurationError, match="dog is named twice"):
        HeadSpec(("dog", "cat", "dog"), "nano", "", "token", 1, 1)
    with pytest.raises(ConfigurationError, match="no class"):
        HeadSpec((), "nano", "", "token", 1, 1)


def test_a_threshold_that_is_no_probability_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="score_thresh"):
        replace(SPEC, score_thresh=50)
