"""Train the built-in model: pictures → borders and groups → cells → prompt decoder → checkpoint.

    everymask train nano --data DIR --work runs/nano --output nano.safetensors --minutes 110
    torchrun --nproc-per-node 2 data_jobs/train_nano.py --data DIR --work runs/nano --output nano.safetensors

DIR holds coco_panoptic/, coco_instances/ and bsds500/, each with train/ and val/, voc/ in VOC's layout, and objects/
with weizmann/, davis/ and clothing/; --sources leaves some out. Only training pictures are learned from; one in ten is
held out, to watch the decoder by. Every stage keeps its results in the work folder: the same command goes on where it
was stopped. Exit codes: 0 done; 2 usage, configuration, or ground truth that cannot be read.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed

from data_jobs.runtime.command import Command
from data_jobs.runtime.exit_codes import DONE
from data_jobs.runtime.outcome import next_step
from data_jobs.runtime.progress import ProgressLine
from everymask.backbone.nano import NanoConfig, NanoModel, load_nano, save_checkpoint
from everymask.backbone.nano.efficientnet import load_efficientnet
from everymask.backbone.nano.encoder import NanoEncoder
from everymask.errors import ConfigurationError
from everymask.evaluation.click_accuracy import (
    ClickAnswers,
    backbone_answers,
    click_figures,
    click_pictures,
    click_scores,
    felzenszwalb_answers,
)
from everymask.evaluation.ground_truth import PictureReference, bsds_pictures, coco_panoptic_pictures, voc_pictures
from everymask.research.nano_training.augment import AugmentConfig
from everymask.research.nano_training.borders import BorderConfig, train_borders
from everymask.research.nano_training.cache import CacheConfig, write_cache
from everymask.research.nano_training.curve import draw_learning_curve
from everymask.research.nano_training.decoding import DecodingConfig, train_decoder
from everymask.research.nano_training.ground_truth import SOURCES, planned_views, training_pictures
from everymask.research.nano_training.loop import file_report

BORDERS_FILE, METRICS_FILE = "borders.pt", "metrics.jsonl"
HELD_OUT_EVERY = 10
"""Of each source's training pictures, one in this many is held out."""
VOC_MIN_AREA = 0.01
"""Least share of the picture for VOC objects to be clicked when the checkpoint is measured."""
WATCHED_PICTURES = 10
"""Held-out pictures of each source on which the decoder is measured during training."""

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
    """Minutes for all trainings together; describing views takes extra time."""
    borders_share: float = 0.3
    """Share of the minutes for borders and groups; the decoder has the rest."""
    sources: tuple[str, ...] = SOURCES
    """Which ground truth to learn from."""
    limit: int | None = None
    """Use only the first so many pictures of every source."""
    evaluate: bool = True
    """Measure clicks on val/ at the end, beside a baseline without learning."""
    threads: int = 0
    """Threads of this process; 0 leaves it to PyTorch."""
    seed: int = 0
    """Seeds the views, the order of pictures and the initial weights."""
    model: NanoConfig = field(default_factory=NanoConfig)
    borders: BorderConfig = field(default_factory=BorderConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.borders_share < 1:
            raise ConfigurationError(f"--borders-share must be in [0, 1); got {self.borders_share}")
        if self.minutes <= 0:
            raise ConfigurationError(f"--minutes must be positive; got {self.minutes}")
        if self.output.suffix != ".safetensors":
            raise ConfigurationError(f"--output {self.output} must end in .safetensors")


def train(config: TrainNanoConfig) -> None:
    """Run every unfinished stage, then write the checkpoint.

    Raises:
        EverymaskError: ground truth missing or unreadable.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    config.work.mkdir(parents=True, exist_ok=True)
    by_source = [training_pictures(config.data, source)[: config.limit] for source in config.sources]
    held_out = [
        picture
        for pictures in by_source
        for picture in pictures[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY][:WATCHED_PICTURES]
    ]
    views = planned_views(
        [picture for pictures in by_source for i, picture in enumerate(pictures, start=1) if i % HELD_OUT_EVERY],
        config.cache.views,
    )
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    encoder = _trained_encoder(config, [picture for picture, _ in views], rank)
    paths = _alone(lambda: _describe(config, views, encoder, "train", config.cache), rank)
    whole = replace(config.cache, augment=None)
    held_out_views = [(picture, 0) for picture in held_out]
    held_out_paths = _alone(lambda: _describe(config, held_out_views, encoder, "held_out", whole), rank)
    decoder = train_decoder(
        paths,
        held_out_paths,
        config.model.decoder,
        config.decoding,
        config.minutes * (1 - config.borders_share),
        config.work / "decoder_state.pt",
        file_report(config.work / METRICS_FILE, "decoder"),
        config.seed,
        rank,
    )
    if rank == 0:
        model = NanoModel(config.model)
        model.encoder, model.decoder = encoder, decoder
        config.output.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(model, config.output, {"seed": str(config.seed)})
        draw_learning_curve(config.work / METRICS_FILE, config.work / "learning_curve.png")
        print(f"{config.output}: {config.output.stat().st_size / 1e6:.2f} MB")


def _alone(work: Callable[[], T], rank: int) -> T:
    """Work that only the first process does; the others wait for it and read the result."""
    if rank == 0:
        result = work()
    if distributed.is_initialized():
        distributed.barrier()
    return result if rank == 0 else work()


def _trained_encoder(config: TrainNanoConfig, pictures: list[PictureReference], rank: int) -> NanoEncoder:
    """The encoder, with its head trained unless an earlier run did so."""
    finished, trunk = config.work / BORDERS_FILE, load_efficientnet()
    if finished.is_file():
        encoder = NanoEncoder(config.model.encoder, trunk)
        encoder.head.load_state_dict(torch.load(finished, weights_only=True))
        return encoder.eval()
    encoder = train_borders(
        pictures,
        trunk,
        config.model.encoder,
        config.borders,
        config.cache.augment or AugmentConfig(),
        config.minutes * config.borders_share,
        config.work / "borders_state.pt",
        file_report(config.work / METRICS_FILE, "borders"),
        config.seed,
        rank,
    )
    if rank == 0:
        torch.save(encoder.head.state_dict(), finished)
    return encoder


def _describe(
    config: TrainNanoConfig,
    views: list[tuple[PictureReference, int]],
    encoder: NanoEncoder,
    kind: str,
    cache: CacheConfig,
) -> list[Path]:
    folder = config.work / "cells" / kind
    line = ProgressLine(len(views), verb=f"described ({kind})")
    paths = write_cache(
        views, folder, encoder, config.model.regions, cache, config.seed, lambda done: line.update(done, 0)
    )
    line.close()
    return paths


def _val_pictures(config: TrainNanoConfig) -> dict[str, list[PictureReference]]:
    readers: dict[str, Callable[[], list[PictureReference]]] = {
        "coco_panoptic": lambda: coco_panoptic_pictures(config.data / "coco_panoptic" / "val"),
        "bsds500": lambda: bsds_pictures(config.data / "bsds500" / "val"),
        "voc": lambda: voc_pictures(config.data / "voc", "val"),
    }
    return {source: read() for source, read in readers.items() if source in config.sources}


def measure(config: TrainNanoConfig) -> dict[str, dict[str, float]]:
    """Click figures of the checkpoint and of the baseline on val/, by ground truth and name."""
    backbone = load_nano(config.output, torch.device("cpu"))
    figures: dict[str, dict[str, float]] = {}
    for source, pictures in _val_pictures(config).items():
        least = VOC_MIN_AREA if source == "voc" else 0.0
        contenders: dict[str, ClickAnswers] = {
            "nano": backbone_answers(backbone),
            "felzenszwalb": felzenszwalb_answers(),
        }
        for name, answers in contenders.items():
            result = click_figures(click_scores(answers, click_pictures(pictures, least)))
            figures[f"{source}/val {name}"] = asdict(result)
            print(json.dumps({f"{source}/val {name}": asdict(result)}), flush=True)
    return figures


def run(config: TrainNanoConfig) -> int:
    """Train and measure; returns the exit code. Raises as `train`."""
    if "RANK" in os.environ:
        distributed.init_process_group("gloo")
    train(config)
    if config.evaluate and int(os.environ.get("RANK", "0")) == 0:
        (config.work / "figures.json").write_text(json.dumps(measure(config), indent=2) + "\n")
    checkpoint = shlex.quote(str(config.output))
    next_step(f"everymask label --input IMAGES --output LABELS --model nano --checkpoint {checkpoint}")
    return DONE


command = Command(
    "train nano",
    TrainNanoConfig,
    run,
    "Train the built-in model from pictures with segmentations. Every stage keeps its results in the work folder: the "
    "same command goes on where it was stopped.",
    groups={
        "options": (
            *("data", "work", "output", "minutes", "borders_share", "sources", "limit", "evaluate", "threads", "seed"),
        )
    },
    interrupted="finished stages are kept, the same command goes on",
    stand_ins={"output": "nano.safetensors"},
)

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
