"""Train the encoder: a teacher's features on every picture, borders on the annotated ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from everymask.backbone.nano.encoder import STRIDES, ConvEncoder, EncoderConfig
from everymask.evaluation.ground_truth import AnnotatedPicture, PictureReference
from everymask.nano_training.augment import recolour, resize
from everymask.nano_training.boundaries import UNKNOWN, boundary_target
from everymask.nano_training.loop import OptimizerConfig, Report, Trainer
from everymask.nano_training.matching import (
    TARGET_CHANNELS,
    TARGETS,
    ChannelStatistics,
    class_divergence,
)
from everymask.nano_training.teacher import Teacher


@dataclass(frozen=True)
class DistillationConfig:
    """How the encoder is trained."""

    view_sides: tuple[int, ...] = (512, 352)
    """Longest sides, in pixels, at which the teacher sees each picture; smaller pictures are not enlarged."""
    crop_px: int = 256
    """Side of a training crop, a multiple of 32."""
    batch: int = 28
    """Crops a step."""
    annotated_share: float = 0.43
    """Share of crops from annotated pictures, which alone teach the boundary head."""
    feature_weights: tuple[float, float, float] = (0.5, 1.0, 1.5)
    """Of the smooth L1 losses at strides 8, 16 and 32."""
    class_weight: float = 0.15
    """Of the divergence of the teacher's own classifier on the student's features from its answer on the teacher's."""
    boundary_weight: float = 1.0
    boundary_positive_weight: float = 3.0
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(2e-3, 0.02, clip_norm=2.0))


class Student(nn.Module):
    """The encoder and the projections to the teacher's channels, which only training needs."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.encoder = ConvEncoder(config)
        self.heads = nn.ModuleList(
            nn.Conv2d(channels, out, 1) for channels, out in zip(config.channels[1:], TARGET_CHANNELS, strict=True)
        )


@dataclass(frozen=True)
class View:
    """A picture at one scale, sides multiples of 32: uint8 image, fp16 teacher maps (perhaps none), borders."""

    image: NDArray[np.uint8]
    targets: tuple[NDArray[np.float16], ...]
    boundary: NDArray[np.float32] | None


def write_views(
    pictures: list[PictureReference], folder: Path, teacher: Teacher | None, config: DistillationConfig
) -> list[Path]:
    """Every picture at every scale with the teacher's answers, one file each; files that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for reference in pictures:
        for side in config.view_sides:
            path = folder / f"{reference.name.replace('/', '-')}-{side}.npz"
            paths.append(path)
            if path.is_file():
                continue
            view = _make_view(reference.read(), side, config.view_sides[0], teacher)
            arrays: dict[str, NDArray[np.generic]] = {"image": view.image}
            arrays |= dict(zip(TARGETS, view.targets, strict=False))
            if view.boundary is not None:
                arrays["boundary"] = view.boundary
            aside = path.with_suffix(".part.npz")
            np.savez(aside, **arrays)  # type: ignore[arg-type]
            aside.replace(path)
    return paths


@torch.inference_mode()
def _make_view(picture: AnnotatedPicture, side: int, largest_side: int, teacher: Teacher | None) -> View:
    longest = max(picture.image.shape[:2])
    scale = min(1.0, largest_side / longest) * side / largest_side
    sides = [max(32, round(length * scale / 32) * 32) for length in picture.image.shape[:2]]
    resized = resize(picture, (sides[0], sides[1]))
    targets: tuple[NDArray[np.float16], ...] = ()
    if teacher is not None:
        pixels = torch.from_numpy(resized.image.copy()).permute(2, 0, 1)[None].float()
        targets = tuple(maps[0].half().numpy() for maps in teacher(pixels))
    return View(resized.image, targets, boundary_target(resized) if picture.label_maps else None)


def _read_view(path: Path) -> View:
    with np.load(path) as file:
        targets = tuple(file[name] for name in TARGETS if name in file.files)
        return View(file["image"], targets, file["boundary"] if "boundary" in file.files else None)


def _crop(array: NDArray[np.generic], x: int, y: int, size: int, stride: int, fill: float) -> NDArray[np.float32]:
    """The window at (x, y), in pixels, of an array (..., H/stride, W/stride), filled up where it reaches outside."""
    window = array[..., y // stride : (y + size) // stride, x // stride : (x + size) // stride]
    out = np.full((*array.shape[:-2], size // stride, size // stride), fill, dtype=np.float32)
    out[..., : window.shape[-2], : window.shape[-1]] = window
    return out


def _random_crop(view: View, size: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Image, boundary, validity at stride 32, teacher maps. Crops lie on the grid of stride 32."""
    height, width = view.image.shape[:2]
    y = int(rng.integers(0, max(0, height - size) // 32 + 1)) * 32
    x = int(rng.integers(0, max(0, width - size) // 32 + 1)) * 32
    recoloured = recolour(view.image, 1.0, rng).transpose(2, 0, 1)
    boundary = np.full((height // 2, width // 2), UNKNOWN) if view.boundary is None else view.boundary
    crops = [
        _crop(recoloured, x, y, size, 1, 127),
        _crop(boundary, x, y, size, 2, UNKNOWN),
        _crop(np.ones((height // 32, width // 32)), x, y, size, 32, 0),
    ]
    crops += [_crop(target, x, y, size, stride, 0) for target, stride in zip(view.targets, STRIDES[1:], strict=False)]
    return [crop[..., ::-1].copy() for crop in crops] if rng.random() < 0.5 else crops


def _batches(views: list[View], config: DistillationConfig, rng: np.random.Generator) -> Iterator[list[torch.Tensor]]:
    annotated = [i for i, view in enumerate(views) if view.boundary is not None] or list(range(len(views)))
    from_annotated = round(config.batch * config.annotated_share)
    while True:
        chosen = [*rng.choice(annotated, from_annotated), *rng.integers(0, len(views), config.batch - from_annotated)]
        crops = [_random_crop(views[int(i)], config.crop_px, rng) for i in chosen]
        yield [torch.from_numpy(np.stack(parts)) for parts in zip(*crops, strict=True)]


def train_encoder(
    view_paths: list[Path],
    teacher: Teacher | None,
    encoder_config: EncoderConfig,
    config: DistillationConfig,
    minutes: float,
    state_path: Path,
    report: Report,
    seed: int,
    rank: int = 0,
) -> ConvEncoder:
    """Train for `minutes` in all, going on from `state_path`; the encoder of the averaged weights.

    Under `torchrun` every process draws its own crops: `rank` tells them apart.
    """
    torch.manual_seed(seed)
    student = Student(encoder_config).to(memory_format=torch.channels_last)
    trainer = Trainer(student, config.optimizer, minutes, state_path, report)
    views = [_read_view(path) for path in view_paths]
    statistics = _channel_statistics(views)
    batches = _batches(views, config, np.random.default_rng([seed, rank, trainer.step]))
    student.train()
    while trainer.progress < 1:
        loss, figures = _loss(student, next(batches), statistics, teacher, config)
        trainer.update(loss, figures)
    trainer.report_means()
    trainer.save()
    student.load_state_dict(trainer.averaged())
    return student.encoder.eval()


def _channel_statistics(views: list[View]) -> list[ChannelStatistics]:
    """Of each teacher map over at most 300 views."""
    statistics = []
    for level in range(len(views[0].targets)):
        sample = views[:: max(1, len(views) // 300)]
        columns = [torch.from_numpy(view.targets[level]).flatten(1)[:, ::7] for view in sample]
        statistics.append(ChannelStatistics.measure(columns))
    return statistics


def _loss(
    student: Student,
    batch: list[torch.Tensor],
    statistics: list[ChannelStatistics],
    teacher: Teacher | None,
    config: DistillationConfig,
) -> tuple[torch.Tensor, dict[str, float]]:
    image, boundary, present, *targets = batch
    with torch.autocast(image.device.type, torch.bfloat16):
        output = student.encoder(image.contiguous(memory_format=torch.channels_last))
        predictions = [head(maps) for head, maps in zip(student.heads, output.features[1:], strict=True)]
    known = (boundary != UNKNOWN).float()
    wrong = functional.binary_cross_entropy_with_logits(
        output.boundary[:, 0].float(),
        boundary.clamp(0, 1),
        reduction="none",
        pos_weight=torch.tensor(config.boundary_positive_weight),
    )
    border = (wrong * known).sum() / known.sum().clamp_min(1)
    loss = config.boundary_weight * border
    figures = {"boundary": float(border.detach())}
    for level, target in enumerate(targets):
        whitened = statistics[level].whiten(target)
        mask = functional.interpolate(present[:, None], size=target.shape[-2:])
        error = functional.smooth_l1_loss(predictions[level].float(), whitened, reduction="none")
        error = (error * mask).sum() / (mask.sum() * target.shape[1]).clamp_min(1)
        loss = loss + config.feature_weights[level] * error
        figures[TARGETS[level]] = float(error.detach())
    if teacher is not None and targets:
        coloured = statistics[-1].colour(predictions[-1].float())
        divergence = class_divergence(teacher, coloured, targets[-1], present[:, None])
        loss = loss + config.class_weight * divergence
        figures["classes"] = float(divergence.detach())
    return loss, figures
