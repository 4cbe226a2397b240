"""The official SAM architecture in any size: inferred from a checkpoint's tensors, and built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn

from everymask.errors import CheckpointError

DECODER_HEADS = 8
"""Heads of the two-way transformer; no tensor's shape reveals them, and every official model has eight."""
MULTIMASK_OUTPUTS = 3
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class PromptArchitecture:
    """Sizes of a SAM's parts after its image encoder, the same in all official models.

    Attributes:
        image_size: side of the square network input in pixels.
        patch_size: side of a patch in pixels; the embedding has (image_size / patch_size)² tokens.
        prompt_width: C, channels of the image embedding, prompts and mask tokens; divisible by 32, so that the
            decoder's eight heads have whole channels after halving.
        decoder_depth: layers of the two-way transformer.
        decoder_mlp_width: hidden channels of its MLPs.
        iou_head_depth: layers of the MLP that predicts IoU.
        iou_head_width: hidden channels of that MLP.
        mask_prompt_channels: channels of the (unused) mask-prompt branch.
    """

    image_size: int = 1024
    patch_size: int = 16
    prompt_width: int = 256
    decoder_depth: int = 2
    decoder_mlp_width: int = 2048
    iou_head_depth: int = 3
    iou_head_width: int = 256
    mask_prompt_channels: int = 16

    @property
    def grid_size(self) -> int:
        """Image tokens along one side of the embedding."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class SamArchitecture(PromptArchitecture):
    """Sizes of a SAM of the official architecture. The defaults are ViT-B's.

    Attributes:
        encoder_width: channels of the image encoder.
        encoder_depth: transformer blocks of the image encoder.
        encoder_heads: attention heads of the image encoder; divides `encoder_width`.
        encoder_mlp_width: hidden channels of the encoder's MLPs.
        global_blocks: blocks that attend over the whole image; the others attend within windows.
        window_size: side of an attention window in tokens.
    """

    encoder_width: int = 768
    encoder_depth: int = 12
    encoder_heads: int = 12
    encoder_mlp_width: int = 3072
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    window_size: int = 14


VIT_B = SamArchitecture()
VIT_L = SamArchitecture(
    encoder_width=1024, encoder_depth=24, encoder_heads=16, encoder_mlp_width=4096, global_blocks=(5, 11, 17, 23)
)
VIT_H = SamArchitecture(
    encoder_width=1280, encoder_depth=32, encoder_heads=16, encoder_mlp_width=5120, global_blocks=(7, 15, 23, 31)
)
OFFICIAL_ARCHITECTURES: Mapping[str, SamArchitecture] = {"vit_b": VIT_B, "vit_l": VIT_L, "vit_h": VIT_H}


def build_sam(architecture: SamArchitecture, seed: int | None = None) -> Sam:
    """A `segment_anything` model of these sizes with random weights, in evaluation mode.

    `seed` makes the weights reproducible, and large enough that answers differ between prompts (the modules' own
    initialisation gives almost the same mask for every click), for tests and benchmarks. None keeps the modules' own
    initialisation, for weights to be loaded over.
    """
    encoder = ImageEncoderViT(
        img_size=architecture.image_size,
        patch_size=architecture.patch_size,
        embed_dim=architecture.encoder_width,
        depth=architecture.encoder_depth,
        num_heads=architecture.encoder_heads,
        mlp_ratio=architecture.encoder_mlp_width / architecture.encoder_width,
        out_chans=architecture.prompt_width,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=architecture.window_size,
        global_attn_indexes=architecture.global_blocks,
    )
    sam = assemble_sam(encoder, architecture)
    if seed is not None:
        randomise(sam, seed)
    return sam.eval().requires_grad_(False)


def assemble_sam(encoder: nn.Module, architecture: PromptArchitecture) -> Sam:
    """A `segment_anything` model around an image encoder, with prompt encoder and mask decoder of these sizes."""
    grid = architecture.grid_size
    return Sam(
        image_encoder=encoder,
        prompt_encoder=PromptEncoder(
            embed_dim=architecture.prompt_width,
            image_embedding_size=(grid, grid),
            input_image_size=(architecture.image_size, architecture.image_size),
            mask_in_chans=architecture.mask_prompt_channels,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=MULTIMASK_OUTPUTS,
            transformer=TwoWayTransformer(
                depth=architecture.decoder_depth,
                embedding_dim=architecture.prompt_width,
                mlp_dim=architecture.decoder_mlp_width,
                num_heads=DECODER_HEADS,
            ),
            transformer_dim=architecture.prompt_width,
            iou_head_depth=architecture.iou_head_depth,
            iou_head_hidden_dim=architecture.iou_head_width,
        ),
        pixel_mean=list(PIXEL_MEAN),
        pixel_std=list(PIXEL_STD),
    )


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Weights N(0, 1.5²/fan-in), embeddings N(0, 1), biases and norms with noise, so that every parameter matters."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            parameter.copy_(0.1 * noise + name.endswith("weight"))
        elif id(parameter) in embeddings or name.endswith(("pos_embed", "rel_pos_h", "rel_pos_w")):
            parameter.copy_(noise)
        else:
            parameter.copy_(noise * (1.5 / parameter[0].numel() ** 0.5))
    for name, buffer in model.named_buffers():
        if name.endswith("gaussian_matrix"):  # frequencies of the positional encoding
            buffer.copy_(torch.randn(buffer.shape, generator=generator))
        elif name.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))


def infer_architecture(tensors: Mapping[str, torch.Tensor], source: str) -> SamArchitecture:
    """Infer the sizes from a state dictionary of `segment_anything.modeling.Sam`.

    `source` names the file in errors. Raises CheckpointError if the tensors are not a SAM's.
    """
    try:
        pos_embed = tensors["image_encoder.pos_embed"]
        patches = tensors["image_encoder.patch_embed.proj.weight"]
        grid, width, patch_size = int(pos_embed.shape[1]), int(pos_embed.shape[3]), int(patches.shape[2])
        depth = _count(tensors, r"image_encoder\.blocks\.(\d+)\.")
        reach = [tensors[f"image_encoder.blocks.{block}.attn.rel_pos_h"] for block in range(depth)]
        attended = [(int(table.shape[0]) + 1) // 2 for table in reach]
        decoder = "mask_decoder.transformer.layers"
        return SamArchitecture(
            image_size=grid * patch_size,
            patch_size=patch_size,
            encoder_width=width,
            encoder_depth=depth,
            encoder_heads=width // int(reach[0].shape[1]),
            encoder_mlp_width=int(tensors["image_encoder.blocks.0.mlp.lin1.weight"].shape[0]),
            global_blocks=tuple(block for block, side in enumerate(attended) if side == grid),
            window_size=next((side for side in attended if side != grid), 14),
            prompt_width=int(tensors["image_encoder.neck.0.weight"].shape[0]),
            decoder_depth=_count(tensors, r"mask_decoder\.transformer\.layers\.(\d+)\."),
            decoder_mlp_width=int(tensors[f"{decoder}.0.mlp.lin1.weight"].shape[0]),
            iou_head_depth=_count(tensors, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\."),
            iou_head_width=int(tensors["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0]),
            mask_prompt_channels=int(tensors["prompt_encoder.mask_downscaling.3.weight"].shape[0]),
        )
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{source} does not hold a SAM of the official architecture (no usable {error}); "
            "use a checkpoint published for vit_b, vit_l or vit_h, or one trained from them"
        ) from error


def _count(tensors: Mapping[str, torch.Tensor], pattern: str) -> int:
    """One more than the largest number that `pattern` finds in tensor names."""
    numbers = [int(found[1]) for found in map(re.compile(pattern).match, tensors) if found]
    if not numbers:
        raise KeyError(pattern)
    return max(numbers) + 1
