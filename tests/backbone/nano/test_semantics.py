from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from everymask.backbone.nano import SHIPPED_WEIGHTS, NanoBackbone, NanoConfig, NanoModel, load_nano, save_checkpoint
from everymask.backbone.nano.checkpoint import load_checkpoint
from everymask.backbone.nano.decoder import DecoderConfig
from everymask.backbone.nano.encoder import ConvEncoder, EncoderConfig
from everymask.backbone.nano.quantization import dequantize, quantize
from everymask.backbone.nano.semantics import SemanticBranch, SemanticsConfig, semantic_image
from everymask.errors import CheckpointError, ModelOutputError

CPU = torch.device("cpu")
SIZES = SemanticsConfig(channels=12, blocks=1)


def shipped_model(semantics: SemanticsConfig | None) -> NanoModel:
    """The shipped encoder and decoder, with an untrained branch or none."""
    shipped = load_checkpoint(SHIPPED_WEIGHTS)
    torch.manual_seed(0)
    model = NanoModel(replace(shipped.config, semantics=semantics))
    model.encoder, model.decoder = shipped.encoder, shipped.decoder
    return model.eval()


@pytest.fixture(scope="module")
def plain() -> NanoBackbone:
    return NanoBackbone(shipped_model(None), weights_sha256="0" * 64, device=CPU)


@pytest.fixture(scope="module")
def branched() -> NanoBackbone:
    return NanoBackbone(shipped_model(SIZES), weights_sha256="1" * 64, device=CPU)


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    decoder = DecoderConfig((8, 16, 16, 16), width=40, layers=1, stream=16, token=32, blocks=1)
    config = NanoConfig(EncoderConfig(8, (8, 16, 16, 16), (1, 1, 1, 1), 8), decoder, semantics=SIZES)
    save_checkpoint(NanoModel(config), tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


@pytest.mark.parametrize("size", [(1, 1), (32, 64), (33, 17), (203, 333), (7, 500)])
def test_any_size_gives_a_map_of_stride_16(size: tuple[int, int]) -> None:
    encoder = ConvEncoder(EncoderConfig(8, (8, 12, 16, 20), (1, 1, 1, 1), 8)).eval()
    branch = SemanticBranch(SIZES, (8, 12, 16, 20)).eval()
    with torch.inference_mode():
        features = encoder(torch.rand(2, 3, *size) * 255).features
        assert branch(features).shape == (2, SIZES.channels, -(-size[0] // 16), -(-size[1] // 16))
        assert torch.equal(branch(features), branch(features[1:]))


def test_the_branch_reads_strides_8_16_and_32() -> None:
    branch = SemanticBranch(SIZES, (4, 4, 4, 4)).eval()
    maps = [torch.rand(1, 4, 64 // stride, 96 // stride) for stride in (4, 8, 16, 32)]
    with torch.inference_mode():
        before = branch(maps)
        for level, read in enumerate((False, True, True, True)):
            changed = [other + (index == level) for index, other in enumerate(maps)]
            assert torch.equal(branch(changed), before) != read


def test_a_branch_changes_nothing_but_the_features_of_masks(
    plain: NanoBackbone, branched: NanoBackbone, shapes: NDArray[np.uint8]
) -> None:
    without, with_branch = plain.embed([shapes])[0], branched.embed([shapes])[0]
    assert with_branch.features.keys() - without.features.keys() == {"semantics"}
    assert torch.equal(with_branch.canvas.cell_index, without.canvas.cell_index)
    for name, tensor in without.features.items():
        assert torch.equal(with_branch.features[name], tensor), name
    points = torch.tensor([[50.5, 60.5], [125.5, 60.5], [3.0, 3.0]])
    assert torch.equal(branched.sample_features(with_branch, points), plain.sample_features(without, points))
    expected, answers = plain.decode_points(without, points), branched.decode_points(with_branch, points)
    assert torch.equal(answers.logits, expected.logits)
    assert torch.equal(answers.predicted_iou, expected.predicted_iou)
    assert torch.equal(answers.tokens, expected.tokens)


def test_masks_are_described_by_the_branch(branched: NanoBackbone, shapes: NDArray[np.uint8]) -> None:
    embedding = branched.embed([shapes])[0]
    area = embedding.canvas.cell_area
    masks = torch.rand(4, len(area), generator=torch.Generator().manual_seed(0)) > 0.5
    masks[3] = False
    pooled = branched.pool_features(embedding, masks)
    assert branched.feature_dim == SIZES.channels == pooled.shape[1]
    weights = masks * area / (masks * area).sum(dim=1, keepdim=True).clamp_min(1)
    torch.testing.assert_close(pooled, weights @ embedding.features["semantics"])
    assert not pooled[3].any()


@pytest.mark.parametrize(
    ("image", "canvas", "expected"),
    [
        ((480, 640), (384, 512), (608, 832)),
        ((3000, 4000), (384, 512), (608, 832)),
        ((100, 60), (100, 60), (160, 96)),
        ((3, 2), (3, 2), (32, 32)),
    ],
)
def test_the_branch_sees_the_canvas_enlarged(
    image: tuple[int, int], canvas: tuple[int, int], expected: tuple[int, int]
) -> None:
    pixels = np.zeros((*image, 3), dtype=np.uint8)
    pixels[: image[0] // 2] = 255
    enlarged = semantic_image(pixels, canvas)
    assert enlarged.shape == (*expected, 3)
    assert abs(int((enlarged[:, 0, 0] > 127).sum()) - expected[0] * (image[0] // 2) / image[0]) <= 1


def test_the_cells_hold_what_the_branch_says_where_they_are(branched: NanoBackbone, shapes: NDArray[np.uint8]) -> None:
    embedding = branched.embed([shapes])[0]
    canvas, model = embedding.canvas, branched._model
    assert model.semantics is not None
    with torch.inference_mode():
        enlarged = semantic_image(shapes, canvas.size_hw)
        pixels = torch.from_numpy(enlarged.copy()).permute(2, 0, 1)[None].float()
        maps = model.semantics(model.encoder(pixels).features)
        grown = torch.nn.functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)[0]
    rows, columns = (torch.arange(side) * grown.shape[1 + axis] // side for axis, side in enumerate(canvas.size_hw))
    expected = canvas.from_pixels(grown[:, rows][:, :, columns]).T
    torch.testing.assert_close(embedding.features["semantics"], expected, atol=1e-4, rtol=1e-4)


def test_a_branch_that_is_not_a_number_is_found_at_the_first_image(shapes: NDArray[np.uint8], tmp_path: Path) -> None:
    model = shipped_model(SIZES)
    assert model.semantics is not None
    with torch.no_grad():
        model.semantics.mix[0].weight[3] = float("nan")
    save_checkpoint(model, tmp_path / "nan.safetensors")
    with pytest.raises(ModelOutputError, match="nano"):
        load_nano(tmp_path / "nan.safetensors", CPU).embed([shapes])


def test_quantized_weights_are_off_by_half_a_step_at_most() -> None:
    spread = torch.tensor([1e-9, 1e-3, 0.1, 1.0, 300.0, 0.0]).view(-1, 1, 1, 1)
    weight = torch.randn(6, 20, 3, 3, generator=torch.Generator().manual_seed(0)) * spread
    stored = quantize("w", weight)
    assert {name: tensor.dtype for name, tensor in stored.items()} == {"w": torch.int8, "w.scale": torch.float16}
    step = stored["w.scale"].float().view(-1, 1, 1, 1)
    error = (dequantize(stored)["w"] - weight).abs()
    # The largest value of a channel may lie a rounding of its fp16 scale beyond the last step.
    assert bool((error <= step / 2 * 1.001 + 1e-12).all())
    assert bool((stored["w"][2:5].abs().flatten(1).amax(dim=1) >= 126).all())


def test_a_branch_survives_its_file_and_takes_one_byte_a_weight(small_file: Path, tmp_path: Path) -> None:
    stored, read = load_file(small_file), load_checkpoint(small_file)
    convolutions = {name for name, tensor in stored.items() if tensor.dtype == torch.int8}
    assert convolutions == {
        "semantics.mix.0.weight",
        "semantics.blocks.0.first.0.weight",
        "semantics.blocks.0.second.0.weight",
    }
    assert read.config.semantics == SIZES
    save_checkpoint(read, tmp_path / "again.safetensors")
    again = load_checkpoint(tmp_path / "again.safetensors").state_dict()
    for name, tensor in read.state_dict().items():
        bound = float(stored[name + ".scale"].max()) / 2 if name in convolutions else 0
        torch.testing.assert_close(again[name], tensor, atol=bound, rtol=0)
    with safe_open(small_file, framework="pt") as file:
        assert json.loads(file.metadata()["config"])["semantics"] == {"channels": 12, "blocks": 1}


@pytest.mark.parametrize("damage", ["no scale", "one scale", "no weight", "no sizes", "other sizes", "odd sizes"])
def test_a_damaged_branch_is_refused(small_file: Path, damage: str) -> None:
    tensors = load_file(small_file)
    with safe_open(small_file, framework="pt") as file:
        metadata = file.metadata()
    config = json.loads(metadata["config"])
    name = "semantics.mix.0.weight"
    if damage == "no scale":
        del tensors[name + ".scale"]
    elif damage == "one scale":
        tensors[name + ".scale"] = tensors[name + ".scale"][:1].clone()
    elif damage == "no weight":
        del tensors[name]
    else:
        config["semantics"] = {"no sizes": None, "other sizes": {"channels": 16, "blocks": 1}, "odd sizes": 12}[damage]
    save_file(tensors, small_file, metadata | {"config": json.dumps(config)})
    with pytest.raises(CheckpointError, match="architecture"):
        load_nano(small_file, CPU)


def test_a_file_from_before_the_branch_is_read(small_file: Path) -> None:
    tensors = {name: tensor for name, tensor in load_file(small_file).items() if not name.startswith("semantics.")}
    with safe_open(small_file, framework="pt") as file:
        metadata = file.metadata()
    config = json.loads(metadata["config"])
    del config["semantics"]
    save_file(tensors, small_file, metadata | {"config": json.dumps(config)})
    read = load_nano(small_file, CPU)
    assert read.feature_dim == 8 + 16 + 16 + 16
