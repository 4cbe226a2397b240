"""SAM 2.1 (Ravi et al. 2024) on still images: a Hiera encoder, SAM's prompts, a mask decoder with finer features."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from everymask.backbone.sam.backbone import SamBackbone, SamParts
from everymask.backbone.sam.config import SamConfig
from everymask.backbone.sam.frame import ImageFrame
from everymask.backbone.sam.loading import family_loader
from everymask.backbone.sam.prompt_decoder import PromptDecoder
from everymask.backbone.sam2.architecture import OFFICIAL_ARCHITECTURES, Sam2, Sam2Architecture, build_sam2
from everymask.backbone.sam2.checkpoint import load_checkpoint
from everymask.backbone.sam2.frame import SquashedFrame

__all__ = ["OFFICIAL_ARCHITECTURES", "Sam2Architecture", "build_sam2", "load", "make_backbone", "make_parts"]


def make_parts(
    sam: Sam2, device: torch.device, config: SamConfig, frame: Callable[..., ImageFrame] = SquashedFrame
) -> SamParts:
    """The parts of a SAM 2, which is taken over, and of no use to the caller afterwards.

    Args:
        frame: makes an image size's frame, from it and the arguments `image_size` and `patch_size`.
    """
    image_size, grid = sam.prompt_encoder.input_image_size[0], sam.prompt_encoder.image_embedding_size[0]
    decoder = PromptDecoder(
        sam.mask_decoder,
        sam.prompt_encoder.get_dense_pe()[0],
        device,
        config.decoder_dtype(device),
        first_token=sam.object_score_token.weight,
        sigmoid_iou=True,
    )
    # The rest of the encoder sums features of several levels, and stays in fp32.
    sam.vision.backbone.to(config.encoder_dtype(device))
    sam.to(device)
    return SamParts(
        encode=sam.encode,
        prompt_encoder=sam.prompt_encoder,
        decoder=decoder,
        frame=partial(frame, image_size=image_size, patch_size=image_size // grid),
        padded_box=True,
    )


def make_backbone(
    sam: Sam2, *, name: str, weights_sha256: str, device: torch.device, config: SamConfig | None = None
) -> SamBackbone:
    """The backbone of a SAM 2, which is taken over."""
    config = config or SamConfig()
    parts = make_parts(sam, device, config)
    return SamBackbone(parts, name=name, weights_sha256=weights_sha256, device=device, config=config)


load = family_loader(load_checkpoint, make_backbone)
