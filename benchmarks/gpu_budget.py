"""What each model asks of a GPU for an image's E-SAM, and the least time that this takes on three cards.

    python benchmarks/gpu_budget.py
    python benchmarks/gpu_budget.py --json benchmarks/results/gpu-budget.json

No GPU is needed: models of their official sizes are run on tensors that hold no numbers, and operations, and the bytes
that each reads and writes, are counted. The bound of a part is the larger of its operations by the card's peak and its
bytes by the bandwidth; nothing reaches a peak, but a card's cache may serve some of the bytes.
What E-SAM does beside the model, and what the host does, come from `tests/gpu_work_run.py` and
`benchmarks/entity_stages.py`; their figures are options here.

Rows "before" are the decoder in fp32 without TF32, 64 prompts a batch, with the operations and waits that were counted
before batches were joined.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import tyro
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from everymask.backbone.mobile_sam import make_backbone as make_mobile_sam
from everymask.backbone.mobile_sam.checkpoint import build_mobile_sam
from everymask.backbone.sam import OFFICIAL_ARCHITECTURES as SAMS
from everymask.backbone.sam import SamConfig, build_sam
from everymask.backbone.sam import make_backbone as make_sam
from everymask.backbone.sam.backbone import SamBackbone
from everymask.backbone.sam.config import Precision
from everymask.backbone.sam2 import OFFICIAL_ARCHITECTURES as SAM2S
from everymask.backbone.sam2 import build_sam2
from everymask.backbone.sam2 import make_backbone as make_sam2
from everymask.evaluation.figure_files import write_figures

META = torch.device("meta")
IMAGE_SIZE_PX = 1024
GRID = 64
KERNEL_S = 5e-6
"""Time of the host to start an operation, about (our estimate; it overlaps with the device's work on earlier ones)."""
VIEWS = {
    *("_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "expand", "lift_fresh", "permute", "select"),
    *("slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view"),
    *("empty", "empty_like", "empty_strided", "new_empty"),
}
"""Operations that touch no memory."""


@dataclass(frozen=True)
class Card:
    """A card's published peaks: dense bf16 and plain fp32 operations a second, bytes a second."""

    bf16: float
    fp32: float
    bandwidth: float


CARDS = {
    # NVIDIA's data sheets: "H100 Tensor Core GPU" (SXM), "L4 Tensor Core GPU", "A10 Tensor Core GPU". Where a sheet
    # gives bf16 with sparsity, half of it.
    "H100": Card(bf16=989.4e12, fp32=66.9e12, bandwidth=3.35e12),
    "L4": Card(bf16=121e12, fp32=30.3e12, bandwidth=300e9),
    "A10": Card(bf16=125e12, fp32=31.2e12, bandwidth=600e9),
}


@dataclass(frozen=True)
class Budget:
    """What is counted, and what comes from other commands."""

    models: tuple[str, ...] = ("mobile_sam", *SAMS, *SAM2S)
    """Of SAM's families; sam3's encoder is SAM 3's own, nano is for CPUs."""
    prompts: int = 3904
    """Of an image's E-SAM: at most, in the 61 batches of 64 that a drawn picture took before."""
    batches: int = 10
    """In which they are asked now (`python -m tests.gpu_work_run 32`)."""
    beside_kernels: int = 497
    """Operations started beside the model (same)."""
    beside_waits: int = 27
    """Times that the device is waited for beside the model (same)."""
    host_seconds: float = 0.93
    """An image's refinement on two idle cores (docs/speed.md)."""
    json: Path | None = None
    """Also write the figures to this file."""


@dataclass
class Asked:
    """What a part asks for."""

    flops: float = 0.0
    bytes: float = 0.0
    kernels: int = 0

    def seconds(self, operations_per_s: float, card: Card) -> float:
        """The least time on a card."""
        return max(self.flops / operations_per_s, self.bytes / card.bandwidth)


@dataclass
class Traffic(TorchDispatchMode):
    """Counts operations, and the bytes that each reads and writes."""

    asked: Asked = field(default_factory=Asked)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._schema.name.split("::")[-1] not in VIEWS:
            self.asked.kernels += 1
            for x in tree_flatten((args, kwargs, out))[0]:
                if isinstance(x, torch.Tensor):
                    # An expanded tensor's repetitions are read from the cache.
                    self.asked.bytes += min(x.numel() * x.element_size(), x.untyped_storage().nbytes())
        return out


@torch.no_grad()
def counted(work: Callable[[], object]) -> Asked:
    """What a computation asks for."""
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        work()
    traffic.asked.flops = flops.get_total_flops()
    return traffic.asked


def model(name: str, config: SamConfig) -> SamBackbone:
    """A model of its official size that holds no numbers."""
    options: dict[str, Any] = {"name": name, "weights_sha256": "", "device": META, "config": config}
    with META:
        if name in SAMS:
            return make_sam(build_sam(SAMS[name]), **options)
        if name in SAM2S:
            return make_sam2(build_sam2(SAM2S[name]), **options)
        return make_mobile_sam(build_mobile_sam(), **options)


def of_prompts(name: str, dtype: torch.dtype, prompts: int) -> Asked:
    """A batch of clicks, after the first on an image."""
    precision: Precision = "fp32" if dtype == torch.float32 else "bf16"
    backbone = model(name, SamConfig(encoder_precision="fp32", decoder_precision=precision))
    decoder, width = backbone._decoder, backbone.token_dim
    skips = None
    if name in SAM2S:
        skips = (
            torch.empty(width // 4, 2 * GRID, 2 * GRID, device=META, dtype=dtype),
            torch.empty(width // 8, 4 * GRID, 4 * GRID, device=META, dtype=dtype),
        )
    with torch.no_grad():
        state = decoder.prepare(torch.empty(GRID * GRID, width, device=META, dtype=dtype), (GRID, GRID), skips)
    return counted(lambda: decoder.decode(state, torch.empty(prompts, 2, width, device=META, dtype=dtype)))


def of_encoder(name: str) -> Asked:
    """An image, in bf16."""
    encode = model(name, SamConfig(encoder_precision="bf16"))._encode
    assert encode is not None
    return counted(lambda: encode(torch.empty(1, 3, IMAGE_SIZE_PX, IMAGE_SIZE_PX, device=META)))


def rows_of(name: str, budget: Budget) -> dict[str, dict[str, str]]:
    """The figures of a model, and of its decoder before."""
    encoder = of_encoder(name)
    rows = {}
    for label, dtype, at_a_time in ((f"{name}, before", torch.float32, 64), (name, torch.bfloat16, 256)):
        is_now = dtype == torch.bfloat16
        batch = of_prompts(name, dtype, at_a_time)
        batches = budget.batches if is_now else -(-budget.prompts // at_a_time)
        share = budget.prompts / at_a_time
        prompts = Asked(batch.flops * share, batch.bytes * share)
        # Before, as counted then: 225 operations and 9 waits a batch of the decoder, 4,995 and 451 beside it.
        kernels = encoder.kernels + batches * (batch.kernels if is_now else 225)
        kernels += budget.beside_kernels if is_now else 4995
        waits = batches * (1 if is_now else 9) + (budget.beside_waits if is_now else 451)
        row = {
            "TFLOP": f"{(encoder.flops + prompts.flops) / 1e12:.1f}",
            "GB": f"{(encoder.bytes + prompts.bytes) / 1e9:.0f}",
            "MB-a-prompt": f"{batch.bytes / at_a_time / 1e6:.0f}",
            "kernels": f"{kernels:,}",
            "started-in-s": f"{kernels * KERNEL_S:.3f}",
            "waits": f"{waits}",
        }
        for card_name, card in CARDS.items():
            peak = card.bf16 if is_now else card.fp32
            row[f"{card_name}-s"] = f"{encoder.seconds(card.bf16, card) + prompts.seconds(peak, card):.2f}"
        row["host-s"] = f"{budget.host_seconds:.2f}" if is_now else "-"
        rows[label] = row
    return rows


def main() -> int:
    """The command; returns its exit code."""
    budget = tyro.cli(Budget, description=__doc__)
    rows: dict[str, dict[str, str]] = {}
    for name in budget.models:
        rows |= rows_of(name, budget)
    columns = next(iter(rows.values()))
    print(f"{'':<24}" + "".join(f"{column:>14}" for column in columns))
    for name, row in rows.items():
        print(f"{name:<24}" + "".join(f"{value:>14}" for value in row.values()))
    if budget.json is not None:
        write_figures(budget.json, rows, {})
    return 0


if __name__ == "__main__":
    sys.exit(main())
