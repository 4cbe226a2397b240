"""Time the prompt decoder and the automatic mask generator against those of `segment_anything`, on the same weights.

E-SAM, which has no counterpart there, is timed beside them.

    python benchmarks/sam_decoder.py                                   random weights of the official architecture
    python benchmarks/sam_decoder.py --model vit_h --device cuda       the published ones
    python benchmarks/sam_decoder.py --points-per-side 32              the full grid

Random weights: depth 2, width 256, 64x64 image tokens; the decoder has its official size. As such weights give no good
masks, thresholds are then set so that about a third of the masks pass the predicted IoU and half of those the
stability score, and the NMS is left out (their boxes all span the image).

Wall-clock figures are the median over `--repeat` interleaved runs after one warm-up, with the fastest and the slowest
run beside it; processor time is what a shared machine disturbs less. Fails (exit 1) when the decoders differ by more
than rounding, or when more than 2 % of the fp32 masks have an IoU under 0.99 with their counterpart; for other
precisions, which share has at least 0.98 is in the figures.
"""

from __future__ import annotations

import copy
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam

from everymask.backbone.points import point_grid
from everymask.backbone.protocol import ImageEmbedding
from everymask.backbone.registry import choose_device
from everymask.backbone.sam import SamArchitecture, SamBackbone, SamConfig, build_sam, make_backbone
from everymask.backbone.sam.checkpoint import load_checkpoint
from everymask.backbone.sam.config import Precision
from everymask.backbone.weights import model_weights
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.entities.segmenter import segment_entities
from everymask.errors import ConfigurationError, EverymaskError
from everymask.evaluation.figure_files import write_figures
from everymask.images.decoding import decode_image
from everymask.masks.rle import encode_masks, rle_ious

REPOSITORY = Path(__file__).resolve().parent.parent
RANDOM = SamArchitecture(
    encoder_depth=2, encoder_width=256, encoder_heads=8, encoder_mlp_width=1024, global_blocks=(1,)
)
AGREEING_IOU = 0.99
AGREEING_SHARE = 0.98
LOWEST_IOU = 0.98
"""Of a mask in half precision with its counterpart."""
THEIR_BATCH = 64
"""Clicks that segment_anything's generator answers at once: its default."""
ROUNDING = 1e-3


@dataclass(frozen=True)
class SamBenchmark:
    """What to time."""

    images: Path = REPOSITORY / "examples" / "images"
    """Folder of photographs; each is resized to `width` x `height`."""
    model: Literal["random", "vit_b", "vit_l", "vit_h"] = "random"
    """random, or a published model."""
    checkpoint: str | None = None
    """Other weights for a published model: file or URL."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    width: int = 640
    """Pixels."""
    height: int = 480
    """Pixels."""
    limit: int = 1
    """Photographs used, by name."""
    points_per_side: int = 16
    """Clicks along each side of the grid of the mask generators."""
    decoder_prompts: int = 64
    """Clicks the decoders are timed on: one batch of segment_anything's default size."""
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    """Precisions of our decoder; segment_anything runs in fp32."""
    repeat: int = 3
    """Number of runs; the median counts."""
    threads: int = 2
    """Torch threads."""
    json: Path | None = None
    """Also write the table's rows to this file."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds: median, fastest and slowest run by the clock, and the median of processor time."""

    median_ms: float
    fastest_ms: float
    slowest_ms: float
    processor_ms: float

    def __str__(self) -> str:
        return f"{self.median_ms:9.1f} [{self.fastest_ms:.1f}, {self.slowest_ms:.1f}] {self.processor_ms:9.1f}"


def time_interleaved(
    functions: Mapping[str, Callable[[], object]], repeat: int, device: torch.device, per: int = 1
) -> dict[str, Timing]:
    """Each function's time per one of its `per` items; functions take turns, so all see the same machine load."""
    wall: dict[str, list[float]] = {name: [] for name in functions}
    processor: dict[str, list[float]] = {name: [] for name in functions}
    for run in range(repeat + 1):
        for name, function in functions.items():
            start, start_processor = time.perf_counter(), time.process_time()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if run > 0:  # The first is the warm-up.
                wall[name].append(1e3 * (time.perf_counter() - start) / per)
                processor[name].append(1e3 * (time.process_time() - start_processor) / per)
    return {
        name: Timing(statistics.median(runs), min(runs), max(runs), statistics.median(processor[name]))
        for name, runs in wall.items()
    }


class Contest:
    """The same weights in `segment_anything` and here, in each precision."""

    def __init__(self, config: SamBenchmark) -> None:
        self.config = config
        self.device = choose_device(config.device)
        sam, self.weights_sha256 = _weights(config)
        self.ours = {
            precision: make_backbone(
                copy.deepcopy(sam),
                name=config.model,
                weights_sha256=self.weights_sha256,
                device=self.device,
                # The same encoder on both sides; what follows it is compared.
                config=SamConfig(encoder_precision="fp32", decoder_precision=precision),
            )
            for precision in config.precisions
        }
        self.theirs = sam.to(self.device)

    @torch.no_grad()
    def decode_theirs(self, embedding: ImageEmbedding, points: torch.Tensor) -> torch.Tensor:
        """(N, 2) points in original pixels → (N, 3, 256, 256) logits, all at once as segment_anything's generator."""
        coords = points * (self.theirs.image_encoder.img_size / max(embedding.canvas.original_size_hw))
        labels = torch.ones(len(points), 1, device=self.device)
        sparse, dense = self.theirs.prompt_encoder(points=(coords[:, None], labels), boxes=None, masks=None)
        logits, _ = self.theirs.mask_decoder(
            image_embeddings=embedding.features["image"].float()[None],
            image_pe=self.theirs.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        return logits

    def compare_decoders(self, image: NDArray[np.uint8]) -> tuple[dict[str, Timing], dict[str, dict[str, float]]]:
        """Milliseconds a prompt, and how the answers differ.

        Raises:
            AssertionError: the fp32 decoder is not segment_anything's.
        """
        embedding = next(iter(self.ours.values())).embed([image])[0]
        height, width = embedding.canvas.size_hw
        side = int(np.ceil(self.config.decoder_prompts**0.5))
        points = point_grid(image.shape[:2], side, self.device)[: self.config.decoder_prompts]
        contestants: dict[str, Callable[[], object]] = {"theirs": lambda: self.decode_theirs(embedding, points)}
        for precision, backbone in self.ours.items():
            contestants[precision] = lambda backbone=backbone: backbone.decode_points(embedding, points)
        timings = time_interleaved(contestants, self.config.repeat, self.device, per=len(points))
        expected = self.decode_theirs(embedding, points)[..., :height, :width].flatten(2)
        agreement = {}
        for precision, backbone in self.ours.items():
            logits = backbone.decode_points(embedding, points).logits
            difference = float((logits - expected).abs().max())
            scale = float(expected.abs().max())
            if precision == "fp32" and difference > ROUNDING * scale:
                raise AssertionError(f"the decoders differ by {difference:.2g}, with logits up to {scale:.2g}")
            inside, wanted = (logits > 0).flatten(0, 1), (expected > 0).flatten(0, 1)
            iou = (inside & wanted).sum(1) / (inside | wanted).sum(1).clamp_min(1)
            agreement[precision] = {
                "max_difference": difference,
                "largest_logit": scale,
                "mean_iou": float(iou.mean()),
                "masks": len(iou),
                "masks_under_0.99_iou": int((iou < AGREEING_IOU).sum()),
                "share_from_0.98_iou": float((iou >= LOWEST_IOU).float().mean()),
            }
        return timings, agreement

    def generator_config(self, image: NDArray[np.uint8]) -> AmgConfig:
        """SAM's defaults; for random weights, thresholds that some masks pass."""
        config = AmgConfig(points_per_side=self.config.points_per_side)
        if self.config.model != "random":
            return config
        backbone = next(iter(self.ours.values()))
        embedding = backbone.embed([image])[0]
        answers = backbone.decode_points(embedding, point_grid(image.shape[:2], 8, self.device))
        logits, iou = answers.logits.flatten(0, 1), answers.predicted_iou.flatten()
        passing = backbone.full_resolution_logits(embedding, logits[iou > iou.quantile(2 / 3)]).flatten(1)
        stability = (passing > 1).sum(1) / (passing > -1).sum(1).clamp_min(1)
        return AmgConfig(
            points_per_side=self.config.points_per_side,
            pred_iou_thresh=float(iou.quantile(2 / 3)),
            stability_score_thresh=float(stability.quantile(0.5)),
            box_nms_thresh=1.0,
        )

    def compare_generators(self, image: NDArray[np.uint8]) -> tuple[dict[str, Timing], dict[str, dict[str, float]]]:
        """Milliseconds an image, encoding included, and how many masks agree.

        Raises:
            AssertionError: the fp32 masks are not segment_anything's.
        """
        config = self.generator_config(image)
        settings = asdict(config) | {"points_per_batch": THEIR_BATCH}
        generator = SamAutomaticMaskGenerator(self.theirs, **settings)

        def generate(backbone: SamBackbone) -> object:
            return segment_amg(backbone, backbone.embed([image])[0], config)

        contestants: dict[str, Callable[[], object]] = {"theirs": lambda: generator.generate(image)}
        for precision, backbone in self.ours.items():
            contestants[precision] = lambda backbone=backbone: generate(backbone)
        timings = time_interleaved(contestants, self.config.repeat, self.device)
        expected = [encode_masks(record["segmentation"][None])[0] for record in generator.generate(image)]
        agreement = {}
        for precision, backbone in self.ours.items():
            masks = [mask.rle for mask in segment_amg(backbone, backbone.embed([image])[0], config).masks]
            iou = rle_ious(expected, masks)
            found = iou.max(axis=1, initial=0)
            agreement[precision] = {
                "masks_theirs": len(expected),
                "masks_ours": len(masks),
                "mean_iou": float(found.mean()) if len(found) else 1.0,
                "share_agreeing": float((found >= AGREEING_IOU).mean()) if len(found) else 1.0,
                "share_from_0.98_iou": float((found >= LOWEST_IOU).mean()) if len(found) else 1.0,
            }
            equally_many = abs(len(masks) - len(expected)) <= (1 - AGREEING_SHARE) * len(expected)
            if precision == "fp32" and not (equally_many and agreement[precision]["share_agreeing"] >= AGREEING_SHARE):
                raise AssertionError(f"the generators disagree: {agreement[precision]}")
        return timings, agreement

    def time_entities(self, image: NDArray[np.uint8]) -> dict[str, Timing]:
        """Milliseconds of E-SAM an image, encoding included, with the generator's grid and thresholds."""
        amg = self.generator_config(image)
        config = EntityConfig(
            points_per_side=amg.points_per_side,
            pred_iou_thresh=amg.pred_iou_thresh,
            stability_score_thresh=amg.stability_score_thresh,
        )

        def segment(backbone: SamBackbone) -> object:
            return segment_entities(backbone, backbone.embed([image])[0], config)

        contestants: dict[str, Callable[[], object]] = {
            precision: lambda backbone=backbone: segment(backbone) for precision, backbone in self.ours.items()
        }
        return time_interleaved(contestants, self.config.repeat, self.device)


def _weights(config: SamBenchmark) -> tuple[Sam, str]:
    if config.model == "random":
        return build_sam(RANDOM, seed=0), "random"
    weights = model_weights(config.model, config.checkpoint)
    return load_checkpoint(weights.path, config.model), weights.sha256


def _photographs(config: SamBenchmark) -> dict[str, NDArray[np.uint8]]:
    paths = sorted(
        path for path in config.images.glob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"}
    )
    if not paths:
        raise ConfigurationError(f"{config.images} holds no photograph; give a folder of them with --images")
    size = (config.width, config.height)
    return {
        path.name: np.asarray(Image.fromarray(decode_image(path.read_bytes())).resize(size))
        for path in paths[: config.limit]
    }


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    )
    return names[0].split(": ", 1)[1] if names else platform.processor()


def _name(contestant: str) -> str:
    return "segment_anything fp32" if contestant == "theirs" else f"everymask {contestant}"


def _rows(what: str, timings: Mapping[str, Timing], agreement: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Rows of figures: times in ms, `faster` by processor time than the first, `same` masks from an IoU of 0.98."""
    first = next(iter(timings.values()))
    return {
        f"{what}: {_name(name)}": {
            "ms": f"{timing.median_ms:,.1f}",
            "fastest": f"{timing.fastest_ms:,.1f}",
            "slowest": f"{timing.slowest_ms:,.1f}",
            "processor-ms": f"{timing.processor_ms:,.1f}",
            "faster": f"{first.processor_ms / timing.processor_ms:.1f}",
            "same": f"{agreement[name]['share_from_0.98_iou']:.1%}" if name in agreement else "-",
        }
        for name, timing in timings.items()
    }


def _print_section(
    title: str, timings: Mapping[str, Timing], agreement: Mapping[str, Mapping[str, float]] | None = None
) -> None:
    print(f"{title:<28}{'median [fastest, slowest]':>26}{'processor':>12}{'speed-up':>10}")
    first = next(iter(timings.values()))
    for name, timing in timings.items():
        print(f"  {_name(name):<24}{timing!s:>38}{first.median_ms / timing.median_ms:>9.1f}x")
    for name, figures in (agreement or {}).items():
        print(f"  {name}: " + ", ".join(f"{key.replace('_', ' ')} {value:.6g}" for key, value in figures.items()))


def run(config: SamBenchmark) -> dict[str, Any]:
    """Time everything, print the tables, write the file of figures, and return its rows.

    Raises:
        EverymaskError: no photograph, no weights, or no such device.
        AssertionError: the answers differ.
    """
    torch.set_num_threads(config.threads)
    contest = Contest(config)
    print(f"{config.model} on {_hardware(contest.device)}, {config.threads} threads, torch {torch.__version__}")
    figures: dict[str, Any] = {}
    for name, image in _photographs(config).items():
        decoders, agreement = contest.compare_decoders(image)
        _print_section(f"{name}: ms a prompt", decoders, agreement)
        generators, masks = contest.compare_generators(image)
        _print_section(f"{name}: ms an image", generators, masks)
        entities = contest.time_entities(image)
        _print_section(f"{name}: ms of E-SAM", entities)
        before = f"{name}, " if config.limit > 1 else ""
        figures |= _rows(f"{before}a prompt", decoders, agreement)
        figures |= _rows(f"{before}automatic masks", generators, masks) | _rows(f"{before}E-SAM", entities, {})
    if config.json is not None:
        weights = {} if config.model == "random" else {config.model: contest.weights_sha256}
        write_figures(config.json, figures, weights)
    return figures


def exit_code(measure: Callable[[], object]) -> int:
    """Run a benchmark: 2 for a user's mistake, 1 if the compared answers differ."""
    try:
        measure()
    except EverymaskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except AssertionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    config = tyro.cli(SamBenchmark, description=__doc__)
    return exit_code(lambda: run(config))


if __name__ == "__main__":
    sys.exit(main())
