"""Train the semantic branch: a teacher's features and classes from the frozen encoder's maps of random crops."""

from __future__ import annotations

import copy
import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from everymask.backbone.nano.encoder import STRIDES, ConvEncoder
from everymask.backbone.nano.semantics import SemanticBranch, SemanticsConfig
from everymask.evaluation.ground_truth import AnnotatedPicture, PictureReference
from everymask.nano_training.augment import recolour, resize
from everymask.nano_training.loop import OptimizerConfig, Report, Trainer
from everymask.nano_training.matching import TARGET_CHANNELS, TARGETS, ChannelStatistics, class_divergence
from everymask.nano_training.teacher import Teacher

_INPUTS = tuple(f"encoder{stride}" for stride in STRIDES[1:])
_TARGETS = TARGETS[1:]
_SHARD_CROPS = 128
_CROPS_AT_ONCE = 16
_FILL = 127
"""Beyond the picture, where a crop is larger."""

Shard = dict[str, torch.Tensor]
"""Maps of up to `_SHARD_CROPS` crops by name, (V, H/s, W/s, C) fp16: the encoder's and the teacher's."""


@dataclass(frozen=True)
class SemanticTrainingConfig:
    """How the semantic branch is trained."""

    views: int = 4
    """Random crops of each picture; the first `views` - 1 of a longer cache are the same."""
    crop_px: int = 320
    """Side of a crop, a multiple of 32."""
    longest_side: tuple[int, int] = (320, 640)
    """Range, in pixels, of the longest side of the picture that a crop is cut from."""
    filled_share: float = 0.8
    """Share of crops whose picture is enlarged, where it must be, until they lie inside it."""
    stretch: float = 0.12
    """Largest change of the log of a side's scale, opposite for height and width."""
    jitter: float = 1.0
    """Strength of the colour changes; 0 for none."""
    batch: int = 32
    """Crops a step and process."""
    feature_weights: tuple[float, float] = (0.5, 1.5)
    """Of the smooth L1 losses at strides 16 and 32."""
    class_weight: float = 0.3
    """Of the divergence of the teacher's own classifier, place by place."""
    class_positions: int = 25
    """Places of stride 32 that are classified in a crop, drawn anew for each batch."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(2e-3, 0.02, clip_norm=2.0))


class _Student(nn.Module):
    """The branch and the projections to the teacher's channels, which only training needs."""

    def __init__(self, config: SemanticsConfig, encoder_channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.branch = SemanticBranch(config, encoder_channels)
        self.heads = nn.ModuleList(nn.Conv2d(config.channels, out, 1) for out in TARGET_CHANNELS[1:])

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Encoder maps at strides 8, 16 and 32 → whitened teacher maps at strides 16 and 32."""
        maps = self.branch(features)
        return [self.heads[0](maps), self.heads[1](functional.avg_pool2d(maps, 2, ceil_mode=True))]


def write_shards(
    pictures: list[PictureReference],
    folder: Path,
    encoder: ConvEncoder,
    teacher: Teacher,
    config: SemanticTrainingConfig,
    seed: int,
    report: Callable[[int], None],
) -> list[Path]:
    """Describe `views` random crops of every picture; files that are there are kept. Returns all paths.

    `report` is told how many crops are there after each file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A copy: channels last is nearly twice as fast here, and the caller's encoder keeps its layout.
    encoder = copy.deepcopy(encoder).to(memory_format=torch.channels_last)
    paths, crops = [], 0
    for view in range(config.views):
        for start in range(0, len(pictures), _SHARD_CROPS):
            chosen = pictures[start : start + _SHARD_CROPS]
            path = folder / f"{view}-{_digest(chosen, config, seed)}.pt"
            if not path.is_file():
                images = [_view(reference, view, config, seed) for reference in chosen]
                aside = path.with_name(path.name + ".part")
                torch.save(_describe(np.stack(images), encoder, teacher), aside)
                aside.replace(path)
            paths.append(path)
            crops += len(chosen)
            report(crops)
    return paths


def _digest(pictures: list[PictureReference], config: SemanticTrainingConfig, seed: int) -> str:
    """Of everything that decides what a view of the pictures looks like."""
    cut = (config.crop_px, config.longest_side, config.filled_share, config.stretch, config.jitter, seed)
    names = "\n".join(reference.name for reference in pictures)
    return hashlib.sha256(f"{cut}\n{names}".encode()).hexdigest()[:16]


def _view(reference: PictureReference, view: int, config: SemanticTrainingConfig, seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng([seed, zlib.crc32(reference.name.encode()), view])
    return random_crop(reference.read(), config, rng)


def random_crop(
    picture: AnnotatedPicture, config: SemanticTrainingConfig, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A square (crop_px, crop_px, 3) of the picture at a random scale, grey beyond its right and lower edge."""
    sides = np.array(picture.image.shape[:2])
    scale = rng.uniform(*config.longest_side) / sides.max()
    if rng.random() < config.filled_share:
        scale = max(scale, config.crop_px / sides.min())
    scales = scale * np.exp(rng.uniform(-config.stretch, config.stretch) * np.array([1, -1]))
    window = np.minimum(np.ceil(config.crop_px / scales), sides).astype(int)
    (y, x), (height, width) = rng.integers(0, sides - window + 1), window
    piece = replace(picture, image=picture.image[y : y + height, x : x + width], label_maps=())
    height, width = (int(side) for side in (window * scales).round().clip(1, config.crop_px))
    crop = np.full((config.crop_px, config.crop_px, 3), _FILL, dtype=np.uint8)
    crop[:height, :width] = resize(piece, (height, width)).image
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return recolour(crop, config.jitter, rng)


@torch.inference_mode()
def _describe(images: NDArray[np.uint8], encoder: ConvEncoder, teacher: Teacher) -> Shard:
    """(V, H, W, 3) crops → their maps."""
    parts = []
    for start in range(0, len(images), _CROPS_AT_ONCE):
        pixels = torch.from_numpy(images[start : start + _CROPS_AT_ONCE]).permute(0, 3, 1, 2).float()
        with torch.autocast("cpu", torch.bfloat16):
            features = encoder(pixels).features[1:]
        answers = teacher(pixels)
        parts.append([maps.permute(0, 2, 3, 1).half() for maps in (*features, answers.stride16, answers.stride32)])
    names = (*_INPUTS, *_TARGETS)
    return {name: torch.cat(maps).contiguous() for name, maps in zip(names, zip(*parts, strict=True), strict=True)}


def train_semantics(
    shard_paths: list[Path],
    teacher: Teacher,
    semantics_config: SemanticsConfig,
    encoder_channels: tuple[int, int, int, int],
    config: SemanticTrainingConfig,
    minutes: float,
    state_path: Path,
    report: Report,
    seed: int,
    rank: int = 0,
) -> SemanticBranch:
    """Train for `minutes` in all, going on from `state_path`; the branch of the averaged weights.

    Under `torchrun` every process draws its own crops: `rank` tells them apart.
    """
    torch.manual_seed(seed)
    student = _Student(semantics_config, encoder_channels).to(memory_format=torch.channels_last)
    trainer = Trainer(student, config.optimizer, minutes, state_path, report)
    # Mapped, not read: the full recipe has more than fits into the memory of small machines.
    shards = [torch.load(path, mmap=True, weights_only=True) for path in shard_paths]
    statistics = [_channel_statistics(shards, name) for name in _TARGETS]
    rng = np.random.default_rng([seed, rank, trainer.step])
    batches = _batches(shards, config, rng)
    student.train()
    while trainer.progress < 1:
        loss, figures = _loss(student, next(batches), statistics, teacher, config, rng)
        trainer.update(loss, figures)
    trainer.report_means()
    trainer.save()
    student.load_state_dict(trainer.averaged())
    return student.branch.eval()


def _channel_statistics(shards: list[Shard], name: str) -> ChannelStatistics:
    """Over every seventh crop."""
    return ChannelStatistics.measure([shard[name][::7].flatten(0, 2).T for shard in shards])


def _batches(shards: list[Shard], config: SemanticTrainingConfig, rng: np.random.Generator) -> Iterator[Shard]:
    """Random crops, (B, C, h, w) maps by name, half of the batches mirrored."""
    places = [(shard, index) for shard in shards for index in range(len(shard[_TARGETS[0]]))]
    while True:
        chosen = [places[int(i)] for i in rng.integers(0, len(places), config.batch)]
        mirrored = rng.random() < 0.5
        batch = {}
        for name in (*_INPUTS, *_TARGETS):
            maps = torch.stack([shard[name][index] for shard, index in chosen])
            # The convolutions are not symmetric, but near enough: one more view for nothing.
            batch[name] = (maps.flip(2) if mirrored else maps).permute(0, 3, 1, 2)
        yield batch


def _loss(
    student: _Student,
    batch: Shard,
    statistics: list[ChannelStatistics],
    teacher: Teacher,
    config: SemanticTrainingConfig,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, dict[str, float]]:
    with torch.autocast("cpu", torch.bfloat16):
        predictions = student([batch[name].bfloat16() for name in _INPUTS])
    loss = torch.zeros(())
    figures = {}
    for level, name in enumerate(_TARGETS):
        error = functional.smooth_l1_loss(predictions[level].float(), statistics[level].whiten(batch[name].float()))
        loss = loss + config.feature_weights[level] * error
        figures[name] = float(error.detach())
    wanted = batch[_TARGETS[-1]].float()
    given = statistics[-1].colour(predictions[-1].float())
    count = wanted.shape[2] * wanted.shape[3]
    drawn = torch.from_numpy(rng.permutation(count)[: config.class_positions])
    given, wanted = (_apart(maps, drawn) for maps in (given, wanted))
    with torch.autocast("cpu", torch.bfloat16):
        divergence = class_divergence(teacher, given, wanted, torch.ones(len(given), 1, 1, 1))
    figures["classes"] = float(divergence.detach())
    return loss + config.class_weight * divergence, figures


def _apart(maps: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) → (B * n, C, 1, 1): the drawn places, each as a picture of its own."""
    return maps.flatten(2)[:, :, drawn].transpose(1, 2).flatten(0, 1)[..., None, None]
