"""Trains the encoder's head on random crops: where borders are, and which places share a segment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from everymask.backbone.nano.efficientnet import EfficientNetLite2
from everymask.backbone.nano.encoder import EncoderConfig, NanoEncoder, fast_bfloat16, same_segment
from everymask.evaluation.ground_truth import UNLABELLED, AnnotatedPicture, PictureReference
from everymask.research.nano_training.augment import AugmentConfig, random_square
from everymask.research.nano_training.boundaries import UNKNOWN, boundary_target
from everymask.research.nano_training.loop import OptimizerConfig, Report, Trainer

_GROUP_STRIDE = 8


@dataclass(frozen=True)
class BorderConfig:
    crop_px: int = 256
    """Side of a training crop, a multiple of 32."""
    batch: int = 10
    """Crops a step."""
    places: int = 96
    """Places of a crop that are compared pairwise."""
    boundary_positive_weight: float = 3.0
    """Weight of places on a border, which are far fewer."""
    group_weight: float = 0.5
    """Weight of the cross-entropy of pairs of places."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(3e-3, 0.02, clip_norm=2.0))


Crop = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""(3, S, S) image, (S / 2, S / 2) borders, (S / 8, S / 8) int64 labels of one annotator."""


class _Crops(IterableDataset[Crop]):
    def __init__(
        self, pictures: list[PictureReference], config: BorderConfig, augment: AugmentConfig, seed: tuple[int, ...]
    ) -> None:
        self._pictures, self._config, self._augment, self._seed = pictures, config, augment, seed

    def __iter__(self) -> Iterator[Crop]:
        rng = np.random.default_rng(self._seed)
        while True:
            picture, other = (self._pictures[int(i)] for i in rng.integers(0, len(self._pictures), 2))
            donor = other.read() if rng.random() < self._augment.paste_probability else None
            yield training_crop(random_square(picture.read(), donor, self._config.crop_px, self._augment, rng), rng)


def training_crop(view: AnnotatedPicture, rng: np.random.Generator) -> Crop:
    """The image and targets of a square view whose sides are multiples of 8."""
    labels = view.label_maps[int(rng.integers(len(view.label_maps)))]
    middle = _GROUP_STRIDE // 2
    return (
        torch.from_numpy(np.ascontiguousarray(view.image)).permute(2, 0, 1),
        torch.from_numpy(boundary_target(view)),
        torch.from_numpy(np.ascontiguousarray(labels[middle::_GROUP_STRIDE, middle::_GROUP_STRIDE]).astype(np.int64)),
    )


def train_borders(
    pictures: list[PictureReference],
    trunk: EfficientNetLite2,
    encoder_config: EncoderConfig,
    config: BorderConfig,
    augment: AugmentConfig,
    minutes: float,
    state_path: Path,
    report: Report,
    seed: int,
    rank: int = 0,
) -> NanoEncoder:
    """Train for `minutes` in all, resuming from `state_path`; returns the encoder with averaged weights.

    Under `torchrun`, `rank` gives each process crops of its own.
    """
    torch.manual_seed(seed)
    encoder = NanoEncoder(encoder_config, trunk)
    trainer = Trainer(encoder.head, config.optimizer, minutes, state_path, report)
    crops = _Crops(pictures, config, augment, (seed, rank, trainer.step))
    # The worker is a process of its own, so that pictures are read while the last ones are learned from.
    batches = iter(DataLoader(crops, config.batch, num_workers=1, multiprocessing_context="spawn"))
    encoder.head.train()
    while trainer.progress < 1:
        loss, figures = _loss(encoder, next(batches), config)
        trainer.update(loss, figures)
    trainer.report_means()
    trainer.save()
    encoder.head.load_state_dict(trainer.averaged())
    return encoder.eval()


def _loss(
    encoder: NanoEncoder, batch: list[torch.Tensor], config: BorderConfig
) -> tuple[torch.Tensor, dict[str, float]]:
    image, border, labels = batch
    with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16(image.device)):
        output = encoder(image.float())
    known = border != UNKNOWN
    share = border.clamp_min(0)
    wrong = functional.binary_cross_entropy_with_logits(output.boundary[:, 0].float(), share, reduction="none")
    weight = known * (1 + (config.boundary_positive_weight - 1) * share)
    boundary = (wrong * weight).sum() / weight.sum().clamp_min(1)
    groups, right = group_loss(output.groups.float(), labels, config.places)
    loss = boundary + config.group_weight * groups
    return loss, {"boundary": float(boundary.detach()), "groups": float(groups.detach()), "pairs_right": right}


def group_loss(groups: torch.Tensor, labels: torch.Tensor, places: int) -> tuple[torch.Tensor, float]:
    """Cross-entropy of whether pairs of random places share a segment, both answers weighted equally.

    Pairs of two unlabelled places are left out, because they may or may not belong together. A labelled and an
    unlabelled place are apart, since segments are labelled wholly.

    Args:
        groups: (B, G, h, w).
        labels: (B, h, w) int64, may hold `UNLABELLED`.

    Returns:
        The loss, and the share of correct pairs, both answers weighted equally.
    """
    drawn = torch.randint(labels[0].numel(), (len(labels), places), device=labels.device)
    label = labels.flatten(1).gather(1, drawn)
    place = groups.flatten(2).gather(2, drawn[:, None].expand(-1, groups.shape[1], -1)).transpose(1, 2)
    logit = same_segment((place[:, :, None] - place[:, None]).square().sum(-1))
    same = label[:, :, None] == label[:, None]
    known = (label[:, :, None] != UNLABELLED) | (label[:, None] != UNLABELLED)
    losses, rights = [], []
    for answer in (True, False):
        chosen = known & (same == answer)
        if bool(chosen.any()):
            value = logit[chosen]
            losses.append(functional.softplus(-value if answer else value).mean())
            rights.append(float(((value > 0) == answer).float().mean()))
    if not losses:
        return groups.sum() * 0, 1.0
    return torch.stack(losses).mean(), sum(rights) / len(rights)
