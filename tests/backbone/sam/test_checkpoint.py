"""Checkpoint files: what loads, and what is refused with which sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from everymask.backbone.registry import load_backbone
from everymask.backbone.sam import SamArchitecture, build_sam
from everymask.backbone.sam.architecture import OFFICIAL_ARCHITECTURES
from everymask.backbone.sam.checkpoint import load_checkpoint
from everymask.errors import CheckpointError
from tests.tiny_sam import TINY


class _Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("ran"),))  # type: ignore[return-value]


def test_safetensors_and_pth_give_the_same_model(tiny_sam_checkpoint: Path, tmp_path: Path) -> None:
    tensors = torch.load(tiny_sam_checkpoint, weights_only=True)
    save_file(tensors, tmp_path / "tiny.safetensors")
    for path in (tiny_sam_checkpoint, tmp_path / "tiny.safetensors"):
        loaded = load_checkpoint(path, "vit_b").state_dict()
        assert loaded.keys() == tensors.keys()
        assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_half_precision_checkpoints_load_as_float32(tiny_sam_checkpoint: Path, tmp_path: Path) -> None:
    tensors = torch.load(tiny_sam_checkpoint, weights_only=True)
    torch.save({name: tensor.half() for name, tensor in tensors.items()}, tmp_path / "half.pth")
    assert all(tensor.dtype == torch.float32 for tensor in load_checkpoint(tmp_path / "half.pth", "vit_b").parameters())


def test_load_backbone_names_model_and_weights(tiny_sam_checkpoint: Path) -> None:
    backbone = load_backbone("vit_l", tiny_sam_checkpoint, "cpu")
    assert backbone.name == "vit_l"
    assert len(backbone.weights_sha256) == 64
    assert backbone.token_dim == backbone.feature_dim == TINY.prompt_width


def test_another_official_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tiny one plays the part of ViT-H, whose weights are too large for a test.
    monkeypatch.setattr("everymask.backbone.sam.checkpoint.OFFICIAL_ARCHITECTURES", {"vit_h": TINY})
    path = tmp_path / "sam.pth"
    torch.save(build_sam(TINY).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"holds vit_h, but vit_b was asked for; use --model vit_h"):
        load_checkpoint(path, "vit_b")


def test_a_truncated_file_is_refused(tiny_sam_checkpoint: Path, tmp_path: Path) -> None:
    for name in ("cut.pth", "cut.safetensors"):
        path = tmp_path / name
        path.write_bytes(tiny_sam_checkpoint.read_bytes()[:5000])
        with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
            load_checkpoint(path, "vit_b")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": _Exploit()}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "bad.pth", "vit_b")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}, {"weight": torch.zeros(1)}])
def test_what_is_no_sam_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth"):
        load_checkpoint(tmp_path / "other.pth", "vit_b")


def test_a_tensor_of_another_shape_is_refused(tiny_sam_checkpoint: Path, tmp_path: Path) -> None:
    tensors = torch.load(tiny_sam_checkpoint, weights_only=True)
    tensors["mask_decoder.mask_tokens.weight"] = torch.zeros(7, TINY.prompt_width)
    torch.save(tensors, tmp_path / "seven.pth")
    with pytest.raises(CheckpointError, match=r"does not fit .* size mismatch for mask_decoder\.mask_tokens"):
        load_checkpoint(tmp_path / "seven.pth", "vit_b")


def test_the_default_architecture_is_vit_b() -> None:
    assert SamArchitecture() == OFFICIAL_ARCHITECTURES["vit_b"]
