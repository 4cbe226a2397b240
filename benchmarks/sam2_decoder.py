"""Time the prompt decoder of SAM 2.1 against that of Meta's `sam2`, on the same random weights.

    python benchmarks/sam2_decoder.py
    python benchmarks/sam2_decoder.py --device cuda --precisions fp32 bf16

Needs `sam2`, which conflicts with packages that everymask needs; `tests/backbone/sam2/test_official.py` makes an
environment that has both, in the folder that EVERYMASK_SAM2_VENV names. The decoder is the same in all sizes of SAM
2.1, and the image features are random. Figures as in `sam_decoder.py`. Fails (exit 1) when the fp32 answers differ by
more than rounding.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import tyro

from benchmarks.sam_decoder import AGREEING_IOU, ROUNDING, exit_code, time_interleaved
from everymask.backbone.registry import choose_device
from everymask.backbone.sam.architecture import randomise
from everymask.backbone.sam.config import DTYPES, Precision
from everymask.backbone.sam.prompt_decoder import PromptDecoder
from everymask.backbone.sam2.architecture import OFFICIAL_ARCHITECTURES, build_sam2
from everymask.backbone.sam2.checkpoint import with_our_names
from everymask.errors import ConfigurationError


@dataclass(frozen=True)
class Sam2Benchmark:
    """What to time."""

    prompts: int = 64
    """Clicks answered."""
    ours_at_a_time: int | None = None
    """Clicks our decoder answers at once; by default 8 on a CPU and 64 on a GPU, as it is run."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precisions: tuple[Precision, ...] = ("fp32",)
    """Precisions of our decoder; sam2 runs in fp32."""
    repeat: int = 3
    """Number of runs; the median counts."""
    threads: int = 2
    """Torch threads."""
    json: Path | None = None
    """Also write the figures to this file."""


@torch.no_grad()
def run(config: Sam2Benchmark) -> dict[str, Any]:
    """Time both decoders, print the table, and return it.

    Raises:
        ConfigurationError: `sam2` is not installed, or there is no such device.
        AssertionError: the answers differ.
    """
    try:
        from sam2.build_sam import build_sam2 as build_official
    except ImportError as error:
        raise ConfigurationError("this needs the package sam2; see the top of benchmarks/sam2_decoder.py") from error
    torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    official = build_official("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu", apply_postprocessing=False)
    randomise(official, seed=0)
    ours = build_sam2(OFFICIAL_ARCHITECTURES["sam2.1_tiny"])
    ours.load_state_dict(with_our_names(official.state_dict()))
    official.to(device)

    generator = torch.Generator().manual_seed(0)
    image, coarse, fine = (
        torch.randn(1, channels, side, side, generator=generator).to(device)
        for channels, side in ((256, 64), (64, 128), (32, 256))
    )
    coords = 1024 * torch.rand(config.prompts, 1, 2, generator=generator).to(device)
    labels = torch.ones(config.prompts, 1, device=device)
    prompts, dense = official.sam_prompt_encoder(points=(coords, labels), boxes=None, masks=None)

    def theirs() -> torch.Tensor:
        masks, *_ = official.sam_mask_decoder(
            image_embeddings=image,
            image_pe=official.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=prompts,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            repeat_image=True,
            high_res_features=[fine, coarse],
        )
        return masks

    tokens = (image[0].flatten(1) + ours.prompt_encoder.no_mask_embed.weight.to(device).t()).t()
    size = config.ours_at_a_time or (8 if device.type == "cpu" else 64)
    contestants: dict[str, Callable[[], torch.Tensor]] = {"theirs": theirs}
    for precision in config.precisions:
        dtype = DTYPES[precision]
        weights = build_sam2(OFFICIAL_ARCHITECTURES["sam2.1_tiny"])
        weights.load_state_dict(ours.state_dict())
        decoder = PromptDecoder(
            weights.mask_decoder,
            weights.prompt_encoder.get_dense_pe()[0],
            device,
            dtype,
            first_token=weights.object_score_token.weight,
            sigmoid_iou=True,
        )

        def decode(decoder: PromptDecoder = decoder, dtype: torch.dtype = dtype) -> torch.Tensor:
            state = decoder.prepare(tokens.to(dtype), (64, 64), (coarse[0].to(dtype), fine[0].to(dtype)))
            return torch.cat([decoder.decode(state, chunk.to(dtype)).logits for chunk in prompts.split(size)])

        contestants[precision] = decode

    timings = time_interleaved(contestants, config.repeat, device, per=config.prompts)
    expected = theirs()
    print(f"sam2.1 decoder on {device}, {config.threads} threads, torch {torch.__version__}: ms a prompt")
    agreement = {}
    for name, timing in timings.items():
        print(f"  {name:<10}{timing!s:>38}{timings['theirs'].median_ms / timing.median_ms:>9.1f}x")
        if name != "theirs":
            agreement[name] = _agreement(contestants[name]().float(), expected)
            print("   ", ", ".join(f"{what} {value:.3g}" for what, value in agreement[name].items()))
    if "fp32" in agreement and agreement["fp32"]["max_difference"] > ROUNDING * float(expected.abs().max()):
        raise AssertionError(f"the decoders differ by {agreement['fp32']['max_difference']:.2g}")
    figures = {"ms_per_prompt": {name: asdict(timing) for name, timing in timings.items()}, "agreement": agreement}
    if config.json is not None:
        config.json.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _agreement(logits: torch.Tensor, expected: torch.Tensor) -> dict[str, float]:
    inside, wanted = (logits > 0).flatten(2), (expected > 0).flatten(2)
    iou = (inside & wanted).sum(2) / (inside | wanted).sum(2).clamp_min(1)
    return {
        "max_difference": float((logits - expected).abs().max()),
        "largest_logit": float(expected.abs().max()),
        "mean_iou": float(iou.mean()),
        "masks_under_0.99_iou": float((iou < AGREEING_IOU).sum()),
    }


if __name__ == "__main__":
    chosen = tyro.cli(Sam2Benchmark, description=__doc__)
    sys.exit(exit_code(lambda: run(chosen)))
