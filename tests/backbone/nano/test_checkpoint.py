from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from everymask.backbone.nano import SHIPPED_WEIGHTS, NanoBackbone, NanoConfig, NanoModel, load_nano, save_checkpoint
from everymask.backbone.nano.decoder import DecoderConfig
from everymask.errors import CheckpointError, ModelOutputError

CPU = torch.device("cpu")


def test_shipped_file_is_small_and_half_precision() -> None:
    assert SHIPPED_WEIGHTS.stat().st_size <= 12_000_000
    assert {tensor.dtype for tensor in load_file(SHIPPED_WEIGHTS).values() if tensor.is_floating_point()} == {
        torch.float16
    }


def test_a_saved_model_is_the_one_that_is_read(tmp_path: Path) -> None:
    config = NanoConfig(decoder=DecoderConfig(width=40, layers=1, stream=16, token=32, blocks=1))
    model = NanoModel(config)
    save_checkpoint(model, tmp_path / "small.safetensors")
    read = load_nano(tmp_path / "small.safetensors", CPU)
    assert read.token_dim == 32
    weights = model.decoder.output_tokens.detach()
    torch.testing.assert_close(read._model.decoder.output_tokens, weights, atol=1e-3, rtol=1e-3)
    assert not any("trunk" in name for name in load_file(tmp_path / "small.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == ["small.safetensors"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.safetensors"):
        load_nano(tmp_path / "absent.safetensors", CPU)


@pytest.mark.parametrize("content", [b"", b"not weights", SHIPPED_WEIGHTS.read_bytes()[:1_000_000]])
def test_a_corrupt_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_nano(path, CPU)


def test_another_models_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="holds no nano model"):
        load_nano(path, CPU)


def test_missing_tensors_and_another_version_are_refused(tmp_path: Path) -> None:
    tensors = load_file(SHIPPED_WEIGHTS)
    metadata = {"format": "everymask-nano", "version": "2", "config": "{}"}
    save_file(tensors, tmp_path / "config.safetensors", metadata)
    with pytest.raises(CheckpointError, match="architecture"):
        load_nano(tmp_path / "config.safetensors", CPU)
    save_file(tensors, tmp_path / "version.safetensors", metadata | {"version": "99"})
    with pytest.raises(CheckpointError, match="version 99"):
        load_nano(tmp_path / "version.safetensors", CPU)


def test_weights_that_are_not_numbers_are_found_at_the_first_image(nano: NanoBackbone, tmp_path: Path) -> None:
    model = NanoModel(NanoConfig(decoder=DecoderConfig(width=40, layers=1, stream=16, token=32, blocks=1)))
    with torch.no_grad():
        model.encoder.head.boundary.weight[:] = float("nan")
    save_checkpoint(model, tmp_path / "nan.safetensors")
    with pytest.raises(ModelOutputError, match="nano"):
        load_nano(tmp_path / "nan.safetensors", CPU).embed([np.zeros((40, 40, 3), dtype=np.uint8)])
