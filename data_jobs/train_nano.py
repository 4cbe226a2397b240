"""Train the built-in model: pictures → encoder and semantic branch (distilled) → cells → prompt decoder → checkpoint.

    python data_jobs/train_nano.py --data DIR --work runs/nano --output nano.safetensors --minutes 110
    torchrun --nproc-per-node 2 data_jobs/train_nano.py --data DIR --work runs/nano --output nano.safetensors

DIR holds coco_panoptic/, coco_instances/ and bsds500/, each with train/ and val/. Only train/ is learned from. Every
stage keeps its results in the work folder: the same command goes on where it was stopped. Exit codes: 0 done; 2 usage,
configuration, or ground truth that cannot be read.
"""

from __future__ import annotations

import sys
from pathlib import Path

# As a script, the checkout this file belongs to comes before any installed everymask, on workers too.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TypeVar

import torch
import tyro
from torch import distributed

from data_jobs.runtime.progress import ProgressLine
from everymask.backbone.nano import NanoConfig, NanoModel, load_nano, save_checkpoint
from everymask.backbone.nano.encoder import ConvEncoder
from everymask.backbone.nano.semantics import SemanticBranch, SemanticsConfig
from everymask.errors import ConfigurationError, EverymaskError
from everymask.evaluation.clicks import (
    ClickAnswers,
    backbone_answers,
    click_figures,
    click_pictures,
    click_scores,
    felzenszwalb_answers,
)
from everymask.evaluation.ground_truth import PictureReference, bsds_pictures, coco_panoptic_pictures
from everymask.nano_training.cache import CacheConfig, write_cache
from everymask.nano_training.curve import draw_learning_curve
from everymask.nano_training.decoding import DecodingConfig, train_decoder
from everymask.nano_training.distillation import DistillationConfig, train_encoder, write_views
from everymask.nano_training.ground_truth import SOURCES, training_pictures, unlabelled_pictures
from everymask.nano_training.loop import file_report
from everymask.nano_training.semantics import SemanticTrainingConfig, train_semantics, write_shards
from everymask.nano_training.teacher import Teacher

ENCODER_FILE, SEMANTICS_FILE, METRICS_FILE = "encoder.pt", "semantics.pt", "metrics.jsonl"
VALIDATION_PICTURES = 40
"""Described for the figures that are reported while the decoder is trained."""

_VAL_READERS = {"coco_panoptic": coco_panoptic_pictures, "bsds500": bsds_pictures}

T = TypeVar("T")


@dataclass(frozen=True)
class TrainNanoConfig:
    """Train nano from pictures with segmentations."""

    data: Path
    """Folder of ground truth."""
    work: Path
    """Folder for views, states and metrics.jsonl; tens of GB for the full recipe."""
    output: Path
    """The checkpoint to write."""
    minutes: float = 110
    """Time for all trainings together; describing views comes on top."""
    encoder_share: float = 0.45
    """Share of the minutes that goes to the encoder."""
    semantics_share: float = 0.33
    """Share of what the encoder leaves that goes to the semantic branch, if there is one; the decoder has the rest."""
    sources: tuple[str, ...] = SOURCES
    """Which ground truth to learn from."""
    teacher: Path | None = None
    """Folded MobileNetV2 to distil from; without it the encoder learns borders alone, and no semantic branch."""
    extra_pictures: Path | None = None
    """Folder of further pictures, without annotation, to distil on."""
    limit: int | None = None
    """Only the first so many pictures of every source."""
    evaluate: bool = True
    """Measure clicks on val/ at the end, beside the baseline that learns nothing."""
    threads: int = 0
    """Threads of this process; 0 leaves it to PyTorch."""
    seed: int = 0
    model: NanoConfig = field(default_factory=lambda: NanoConfig(semantics=SemanticsConfig()))
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    semantics: SemanticTrainingConfig = field(default_factory=SemanticTrainingConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        for flag, share in (("--encoder-share", self.encoder_share), ("--semantics-share", self.semantics_share)):
            if not 0 <= share < 1:
                raise ConfigurationError(f"{flag} must be in [0, 1); got {share}")
        if self.minutes <= 0:
            raise ConfigurationError(f"--minutes must be positive; got {self.minutes}")
        if self.output.suffix != ".safetensors":
            raise ConfigurationError(f"--output {self.output} must end in .safetensors")


def train(config: TrainNanoConfig) -> None:
    """Run every stage that is not done yet, then write the checkpoint.

    Raises:
        EverymaskError: ground truth or teacher missing or unreadable.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    config.work.mkdir(parents=True, exist_ok=True)
    pictures = [
        picture for source in config.sources for picture in training_pictures(config.data, source)[: config.limit]
    ]
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    encoder = _encoder(config, pictures, rank)
    branch = _semantics(config, pictures, encoder, rank)
    minutes_left = config.minutes * (1 - config.encoder_share)
    paths = _alone(lambda: _describe(config, pictures, encoder, "train", config.cache), rank)
    val_pictures = _val_pictures(config)
    val_pictures = val_pictures[:: max(1, len(val_pictures) // VALIDATION_PICTURES)]
    val_cache = replace(config.cache, views=1, augment=None)
    val_paths = _alone(lambda: _describe(config, val_pictures, encoder, "val", val_cache), rank)
    decoder = train_decoder(
        paths,
        val_paths,
        config.model.decoder,
        config.decoding,
        minutes_left if branch is None else minutes_left * (1 - config.semantics_share),
        config.work / "decoder_state.pt",
        file_report(config.work / METRICS_FILE, "decoder"),
        config.seed,
        rank,
    )
    if rank == 0:
        model = NanoModel(replace(config.model, semantics=None if branch is None else branch.config))
        model.encoder, model.decoder, model.semantics = encoder, decoder, branch
        config.output.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(model, config.output, {"seed": str(config.seed)})
        draw_learning_curve(config.work / METRICS_FILE, config.work / "learning_curve.png")
        print(f"{config.output}: {config.output.stat().st_size / 1e6:.2f} MB")


def _val_pictures(config: TrainNanoConfig) -> list[PictureReference]:
    by_source = (
        read(config.data / source / "val") for source, read in _VAL_READERS.items() if source in config.sources
    )
    return [picture for pictures in by_source for picture in pictures[: config.limit]]


def _extra_pictures(config: TrainNanoConfig) -> list[PictureReference]:
    return [] if config.extra_pictures is None else unlabelled_pictures(config.extra_pictures)[: config.limit]


def _alone(work: Callable[[], T], rank: int) -> T:
    """What the first process makes, the others wait for and read."""
    if rank == 0:
        result = work()
    if distributed.is_initialized():
        distributed.barrier()
    return result if rank == 0 else work()


def _encoder(config: TrainNanoConfig, pictures: list[PictureReference], rank: int) -> ConvEncoder:
    finished = config.work / ENCODER_FILE
    if finished.is_file():
        encoder = ConvEncoder(config.model.encoder)
        encoder.load_state_dict(torch.load(finished, weights_only=True))
        return encoder.eval()
    teacher = None if config.teacher is None else Teacher(config.teacher)
    seen = [*pictures, *_extra_pictures(config)]
    views = _alone(lambda: write_views(seen, config.work / "views", teacher, config.distillation), rank)
    encoder = train_encoder(
        views,
        teacher,
        config.model.encoder,
        config.distillation,
        config.minutes * config.encoder_share,
        config.work / "encoder_state.pt",
        file_report(config.work / METRICS_FILE, "encoder"),
        config.seed,
        rank,
    )
    if rank == 0:
        torch.save(encoder.state_dict(), finished)
    return encoder


def _semantics(
    config: TrainNanoConfig, pictures: list[PictureReference], encoder: ConvEncoder, rank: int
) -> SemanticBranch | None:
    """None without a teacher, or where the model has no branch."""
    sizes, channels = config.model.semantics, config.model.encoder.channels
    if config.teacher is None or sizes is None:
        return None
    finished = config.work / SEMANTICS_FILE
    if finished.is_file():
        branch = SemanticBranch(sizes, channels)
        branch.load_state_dict(torch.load(finished, weights_only=True))
        return branch.eval()
    teacher = Teacher(config.teacher)
    shards = _alone(lambda: _semantic_shards(config, pictures, encoder, teacher), rank)
    branch = train_semantics(
        shards,
        teacher,
        sizes,
        channels,
        config.semantics,
        config.minutes * (1 - config.encoder_share) * config.semantics_share,
        config.work / "semantics_state.pt",
        file_report(config.work / METRICS_FILE, "semantics"),
        config.seed,
        rank,
    )
    if rank == 0:
        torch.save(branch.state_dict(), finished)
    return branch


def _semantic_shards(
    config: TrainNanoConfig, pictures: list[PictureReference], encoder: ConvEncoder, teacher: Teacher
) -> list[Path]:
    seen = [*pictures, *_extra_pictures(config)]
    line = ProgressLine(config.semantics.views * len(seen), verb="described for the semantic branch")
    paths = write_shards(
        seen, config.work / "crops", encoder, teacher, config.semantics, config.seed, lambda done: line.update(done, 0)
    )
    line.close()
    return paths


def _describe(
    config: TrainNanoConfig, pictures: list[PictureReference], encoder: ConvEncoder, split: str, cache: CacheConfig
) -> list[Path]:
    folder = config.work / "cells" / split
    line = ProgressLine(cache.views * len(pictures), verb=f"described of {split}/")
    paths = write_cache(
        pictures, folder, encoder, config.model.regions, cache, config.seed, lambda done: line.update(done, 0)
    )
    line.close()
    return paths


def measure(config: TrainNanoConfig) -> dict[str, dict[str, float]]:
    """Click figures of the checkpoint and of the baseline on val/, by ground truth and name."""
    backbone = load_nano(config.output, torch.device("cpu"))
    figures: dict[str, dict[str, float]] = {}
    for source, read in _VAL_READERS.items():
        if source not in config.sources:
            continue
        contenders: dict[str, ClickAnswers] = {
            "nano": backbone_answers(backbone),
            "felzenszwalb": felzenszwalb_answers(),
        }
        for name, answers in contenders.items():
            result = click_figures(click_scores(answers, click_pictures(read(config.data / source / "val"))))
            figures[f"{source}/val {name}"] = asdict(result)
            print(json.dumps({f"{source}/val {name}": asdict(result)}), flush=True)
    return figures


def main(arguments: list[str] | None = None, program: str = "python data_jobs/train_nano.py") -> int:
    """The command; returns its exit code."""
    try:
        config = tyro.cli(TrainNanoConfig, args=arguments, prog=program, description=__doc__)
        if "RANK" in os.environ:
            distributed.init_process_group("gloo")
        train(config)
        if config.evaluate and int(os.environ.get("RANK", "0")) == 0:
            (config.work / "figures.json").write_text(json.dumps(measure(config), indent=2) + "\n")
    except EverymaskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
