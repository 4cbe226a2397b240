"""Our SAM 2 equals the one of `transformers` on the same random weights, in a small size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import Sam2Config, Sam2MaskDecoderConfig, Sam2Model, Sam2PromptEncoderConfig

from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.backbone.sam.backbone import SamBackbone
from everymask.backbone.sam2.architecture import OFFICIAL_ARCHITECTURES, Sam2, build_sam2, vision_config
from everymask.backbone.sam2.checkpoint import with_our_names
from everymask.backbone.sam2.frame import SquashedFrame
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.errors import CheckpointError
from everymask.labelling.clicks import ClickPrompt, segment_clicks
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.masks.rle import decode_mask
from everymask.records import ImageLabels
from tests.tiny_sam import write_tiny_checkpoint
from tests.tiny_sam2 import TINY, tiny_sam2

TOLERANCE = 1e-4
_TRANSFORMERS_NAMES = (
    (r"^vision\.", "vision_encoder."),
    (r"^no_memory$", "no_memory_embedding"),
    (r"^object_score_token\.", "mask_decoder.obj_score_token."),
    (r"^skip_fine\.", "mask_decoder.conv_s0."),
    (r"^skip_coarse\.", "mask_decoder.conv_s1."),
    (r"out_proj\.", "o_proj."),
    (r"^(mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"norm_final_attn\.", "layer_norm_final_attn."),
    (r"\.mlp\.lin1\.", ".mlp.proj_in."),
    (r"\.mlp\.lin2\.", ".mlp.proj_out."),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"(mlps\.\d+|iou_prediction_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(mlps\.\d+|iou_prediction_head)\.layers\.2\.", r"\1.proj_out."),
    (r"(mlps\.\d+|iou_prediction_head)\.layers\.1\.", r"\1.layers.0."),
)


def transformers_model(sam: Sam2) -> Any:
    """`Sam2Model` with the weights of `sam`, which have the size `TINY`."""
    model = Sam2Model(
        Sam2Config(
            vision_config=vision_config(TINY),
            prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=TINY.prompt_width, image_size=TINY.image_size),
            mask_decoder_config=Sam2MaskDecoderConfig(
                hidden_size=TINY.prompt_width, mlp_dim=TINY.decoder_mlp_width, iou_head_hidden_dim=TINY.iou_head_width
            ),
        )
    ).eval()
    tensors = {}
    for name, tensor in sam.state_dict().items():
        for pattern, replacement in _TRANSFORMERS_NAMES:
            name = re.sub(pattern, replacement, name)
        tensors[name] = tensor
    frequencies = tensors.pop("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix")
    tensors["shared_image_embedding.positional_embedding"] = frequencies
    tensors["prompt_encoder.shared_embedding.positional_embedding"] = frequencies
    points = [tensors.pop(f"prompt_encoder.point_embeddings.{kind}.weight") for kind in range(4)]
    tensors["prompt_encoder.point_embed.weight"] = torch.cat(points)
    left = model.load_state_dict(tensors, strict=False)
    assert all("mask_embed" in name or "pred_obj_score_head" in name for name in left.missing_keys), left.missing_keys
    assert all("mask_downscaling" in name for name in left.unexpected_keys), left.unexpected_keys
    return model


@pytest.fixture(scope="module")
def backbone() -> SamBackbone:
    return tiny_sam2()


@pytest.fixture(scope="module")
def reference() -> Any:
    return transformers_model(build_sam2(TINY, seed=0))


def picture(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(size_hw)).integers(0, 256, (*size_hw, 3)).astype(np.uint8)


def pixels_of(image: NDArray[np.uint8]) -> torch.Tensor:
    frame = SquashedFrame((image.shape[0], image.shape[1]), TINY.image_size, TINY.patch_size)
    prepared = frame.on_host(image)
    return frame.to_network(prepared, prepared.pixels)[0][None]


def test_implements_the_protocol(backbone: SamBackbone) -> None:
    assert isinstance(backbone, PromptableBackbone)


@torch.no_grad()
@pytest.mark.parametrize("size_hw", [(128, 128), (60, 180), (97, 31)])
def test_clicks_give_what_transformers_gives(backbone: SamBackbone, reference: Any, size_hw: tuple[int, int]) -> None:
    image = picture(size_hw)
    height, width = size_hw
    points = torch.tensor([[0.0, 0.0], [width / 2, height / 3], [width - 1.0, height - 1.0]])
    embedding = backbone.embed([image])[0]
    answers = backbone.decode_points(embedding, points)
    coords = points / torch.tensor([width, height]) * TINY.image_size
    wanted = reference(
        pixel_values=pixels_of(image),
        input_points=coords[None, :, None],
        input_labels=torch.ones(1, len(points), 1, dtype=torch.int64),
    )
    features = reference.get_image_embeddings(pixels_of(image))[-1][0]
    assert torch.allclose(embedding.features["image"], features, atol=TOLERANCE * float(features.abs().max()))
    masks = wanted.pred_masks[0].flatten(2)
    worst = float((answers.logits - masks).abs().max()) / float(masks.abs().max())
    worst_iou = float((answers.predicted_iou - wanted.iou_scores[0]).abs().max())
    print(f"worst differences: logits {worst:.2g} of their range, predicted IoU {worst_iou:.2g}")
    assert worst < TOLERANCE
    assert worst_iou < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("clicks", [0, 1, 3])
@pytest.mark.parametrize("boxed", [False, True])
def test_prompts_of_several_clicks_and_a_box(backbone: SamBackbone, reference: Any, clicks: int, boxed: bool) -> None:
    if not clicks and not boxed:
        return
    image = picture((80, 100))
    scale = torch.tensor([TINY.image_size / 100, TINY.image_size / 80])
    points = torch.tensor([[10.0, 20.0], [70.0, 50.0], [30.0, 75.0]])[:clicks]
    labels = torch.tensor([1, 0, 1])[:clicks]
    box = torch.tensor([5.0, 8.0, 91.0, 71.0]) if boxed else None
    answers = backbone.decode_clicks(backbone.embed([image])[0], points, labels, box)
    # In SAM 2 the corners of a box, its last pixel included, are points with labels of their own.
    corners = torch.tensor([[5.0, 8.0], [90.0, 70.0]] if boxed else []).view(-1, 2)
    wanted = reference(
        pixel_values=pixels_of(image),
        input_points=(torch.cat([corners, points]) * scale)[None, None],
        input_labels=torch.cat([torch.tensor([2, 3])[: len(corners)], labels])[None, None],
    )
    masks = wanted.pred_masks[0].flatten(2)
    if masks.shape[1] == 1:  # `transformers` answers with one mask when several clicks leave no doubt.
        wanted = reference(
            pixel_values=pixels_of(image),
            input_points=(torch.cat([corners, points]) * scale)[None, None],
            input_labels=torch.cat([torch.tensor([2, 3])[: len(corners)], labels])[None, None],
            multimask_output=True,
        )
        masks = wanted.pred_masks[0].flatten(2)
    assert float((answers.logits - masks).abs().max()) < TOLERANCE * float(masks.abs().max())


@torch.no_grad()
def test_the_canvas_is_exactly_the_image(backbone: SamBackbone) -> None:
    image = np.zeros((40, 120, 3), dtype=np.uint8)
    image[:, 60:] = 200
    embedding = backbone.embed([image])[0]
    assert embedding.canvas.size_hw == (32, 32)
    assert embedding.canvas_image.shape == (32, 32, 3)
    assert abs(int(embedding.canvas_image[:, 20:].mean()) - 200) <= 1
    halves = embedding.canvas.canvas_coords(torch.tensor([[59.0, 39.0], [60.0, 0.0]]))
    assert halves.tolist() == [[15, 31], [16, 0]]
    full = backbone.full_resolution_logits(embedding, torch.zeros(2, 32 * 32))
    assert full.shape == (2, 40, 120)


def official_tensors(model: str) -> dict[str, torch.Tensor]:
    """Zeros in the shapes, and under the names, of a published file, the video part reduced to two tensors."""
    with torch.device("meta"):
        sam = build_sam2(OFFICIAL_ARCHITECTURES[model])
    ours = (
        (r"^no_memory$", "no_mem_embed"),
        (r"^prompt_encoder\.", "sam_prompt_encoder."),
        (r"^mask_decoder\.", "sam_mask_decoder."),
        (r"^object_score_token\.", "sam_mask_decoder.obj_score_token."),
        (r"^skip_fine\.", "sam_mask_decoder.conv_s0."),
        (r"^skip_coarse\.", "sam_mask_decoder.conv_s1."),
        (r"^vision\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
        (r"^vision\.backbone\.", "image_encoder.trunk."),
        (r"\.projection\.", ".proj."),
        (r"\.layer_norm([12])\.", r".norm\1."),
        (r"\.mlp\.(proj_in|lin1)\.", ".mlp.layers.0."),
        (r"\.mlp\.(proj_out|lin2)\.", ".mlp.layers.1."),
    )
    tensors = {"maskmem_tpos_enc": torch.zeros(1), "sam_mask_decoder.pred_obj_score_head.layers.0.bias": torch.zeros(1)}
    for name, tensor in sam.state_dict().items():
        for pattern, replacement in ours:
            name = re.sub(pattern, replacement, name)
        tensors[name] = torch.zeros(1).expand(tensor.shape)
    return tensors


def test_names_of_the_published_file_are_all_known() -> None:
    with torch.device("meta"):
        names = set(build_sam2(OFFICIAL_ARCHITECTURES["sam2.1_tiny"]).state_dict())
    assert set(with_our_names(official_tensors("sam2.1_tiny"))) == names


def test_a_checkpoint_of_another_size_or_family_is_named(tmp_path: Path) -> None:
    tensors = official_tensors("sam2.1_small")
    # Only names and the first layer tell the size; the file stays small.
    torch.save(
        {"model": {name: t.clone() if t.numel() < 50_000 else torch.zeros(1) for name, t in tensors.items()}},
        tmp_path / "small.pt",
    )
    with pytest.raises(CheckpointError, match=r"small\.pt holds sam2\.1_small, .* use --model sam2\.1_small"):
        load_backbone("sam2.1_tiny", tmp_path / "small.pt", "cpu")
    with pytest.raises(CheckpointError, match="looks like vit_b or vit_l or vit_h"):
        load_backbone("sam2.1_tiny", write_tiny_checkpoint(tmp_path), "cpu")


@pytest.mark.parametrize("size_hw", [(40, 120), (120, 40)])
def test_what_is_built_on_backbones_works_with_a_squashed_one(backbone: SamBackbone, size_hw: tuple[int, int]) -> None:
    image = picture(size_hw)
    entities = EntityConfig(
        points_per_side=4, gallery_points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0
    )
    amg = AmgConfig(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    for config in (LabelConfig(entities=entities), LabelConfig("amg", amg=amg)):
        (labels,) = label_images(backbone, [image], config)
        assert isinstance(labels, ImageLabels)
        assert labels.masks
        assert labels.size_hw == size_hw
        if config.method == "entities":
            assert np.sum([decode_mask(mask.rle) for mask in labels.masks], axis=0).max() == 1
    height, width = size_hw
    prompt = ClickPrompt(((width - 2.0, height - 2.0), (1.0, 1.0)), (1, 0), (width / 2, height / 2, width, height))
    candidates = segment_clicks(backbone, backbone.embed([image])[0], prompt)
    assert 1 <= len(candidates.masks) <= 3
