"""Trains the prompt decoder on described views."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from everymask.backbone.nano.decoder import DecoderConfig, PromptDecoder
from everymask.backbone.nano.encoder import fast_bfloat16
from everymask.backbone.nano.tokens import (
    BOX,
    CANVAS_SIDES,
    CENTRE,
    LOG_SHARE,
    ROOT_SHARE,
    TOUCHES_LEFT,
    TOUCHES_RIGHT,
    CellTokens,
)
from everymask.research.nano_training.loop import OptimizerConfig, Report, Trainer
from everymask.research.nano_training.objective import (
    Batch,
    ObjectiveConfig,
    cell_iou,
    collate,
    draw_prompts,
    interior_cells,
    losses,
)
from everymask.research.nano_training.samples import Sample

_MIN_CELLS = 64
"""Windows with fewer cells say too little about an image."""


@dataclass(frozen=True)
class DecodingConfig:
    batch: int = 5
    """Views per step and process."""
    prompts: int = 24
    """Prompts per view."""
    window_share: float = 0.6
    """Share of batches that keep only the cells inside a random window of each view."""
    smallest_window: float = 0.5
    """Shortest side of such a window, as a share of the view's."""
    feature_dropout: float = 0.1
    """Share of encoder channels zeroed in a third of the views."""
    dropout: float = 0.05
    """Dropout in the image transformer."""
    evaluate_every: int = 250
    """Steps between measurements on the held-out pictures."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


def mirror(sample: Sample) -> Sample:
    """Mirror left and right, assuming unchanged encoder features and merge trees."""
    shape = sample.tokens.shape.clone()
    shape[:, CENTRE.start] *= -1
    shape[:, [TOUCHES_LEFT, TOUCHES_RIGHT]] = shape[:, [TOUCHES_RIGHT, TOUCHES_LEFT]]
    return replace(sample, tokens=sample.tokens._replace(shape=shape))


def window(sample: Sample, smallest: float, rng: np.random.Generator) -> Sample:
    """The cells with centroids in a random window, which becomes the canvas; the sample itself if there are too few."""
    shape = sample.tokens.shape
    sides = shape[0, CANVAS_SIDES]
    kept_sides = sides * torch.from_numpy(rng.uniform(smallest, 1, 2)).float()
    middle = (sides - kept_sides) * torch.from_numpy(rng.uniform(-1, 1, 2)).float()
    inside = ((shape[:, CENTRE] - middle).abs() <= kept_sides).all(dim=1).nonzero()[:, 0]
    area = sample.area[inside]
    area = area / area.sum()
    coverage = sample.coverage[:, inside]
    seen = (coverage.float() * area).sum(dim=1) > 1e-6
    if len(inside) < _MIN_CELLS or not bool(seen.any()):
        return sample
    longest = kept_sides.max()
    shape = shape[inside].clone()
    shape[:, CENTRE] = (shape[:, CENTRE] - middle) / longest
    shape[:, BOX] /= longest
    shape[:, LOG_SHARE], shape[:, ROOT_SHARE] = area.log(), area.sqrt()
    shape[:, CANVAS_SIDES] = kept_sides / longest
    tokens = CellTokens(sample.tokens.features[inside], shape, sample.tokens.planes[:, inside][:, :, inside])
    return Sample(tokens, area, coverage[seen])


def _batches(paths: list[Path], config: DecodingConfig, rng: np.random.Generator) -> Iterator[Batch]:
    while True:
        windowed = rng.random() < config.window_share
        samples: list[Sample] = []
        while len(samples) < config.batch:
            sample = Sample.load(paths[int(rng.integers(len(paths)))])
            if not len(sample.coverage):
                continue
            if windowed:
                sample = window(sample, config.smallest_window, rng)
            if rng.random() < 0.5:
                sample = mirror(sample)
            if rng.random() < 1 / 3:
                keep = torch.from_numpy(rng.random(sample.tokens.features.shape[1]) >= config.feature_dropout)
                sample = replace(sample, tokens=sample.tokens._replace(features=sample.tokens.features * keep))
            samples.append(sample)
        yield collate(samples, [draw_prompts(sample, config.prompts, config.objective, rng) for sample in samples])


def _prefetched(batches: Iterator[Batch], depth: int = 4) -> Iterator[Batch]:
    ready: queue.Queue[Batch] = queue.Queue(depth)

    def fill() -> None:
        for batch in batches:
            ready.put(batch)

    threading.Thread(target=fill, daemon=True).start()
    while True:
        yield ready.get()


def train_decoder(
    train_paths: list[Path],
    held_out_paths: list[Path],
    decoder_config: DecoderConfig,
    config: DecodingConfig,
    minutes: float,
    state_path: Path,
    report: Report,
    seed: int,
    rank: int = 0,
) -> PromptDecoder:
    """Train for `minutes` in all, resuming from `state_path`; returns the decoder with averaged weights.

    Under `torchrun`, `rank` gives each process batches of its own.
    """
    torch.manual_seed(seed)
    decoder = PromptDecoder(decoder_config, dropout=config.dropout)
    trainer = Trainer(decoder, config.optimizer, minutes, state_path, report)
    averaged = PromptDecoder(decoder_config).eval()
    batches = _prefetched(_batches(train_paths, config, np.random.default_rng([seed, rank, trainer.step])))
    decoder.train()
    while trainer.progress < 1:
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16(batch.area.device)):
            output = decoder(decoder.encode(batch.tokens, batch.area), batch.prompts)
        parts = losses(output, batch, config.objective)
        trainer.update(parts["loss"], {name: float(value.detach()) for name, value in parts.items()})
        if trainer.step % config.evaluate_every == 0 and rank == 0 and held_out_paths:
            averaged.load_state_dict(trainer.averaged())
            report({"step": trainer.step, "held_out": cell_figures(averaged, held_out_paths)})
    trainer.report_means()
    trainer.save()
    averaged.load_state_dict(trainer.averaged())
    return averaged


@torch.inference_mode()
def cell_figures(decoder: PromptDecoder, paths: list[Path]) -> dict[str, float]:
    """Click figures at cell resolution, one click per segment: quick, and close to `evaluation.click_accuracy`."""
    rows = []
    for path in paths:
        sample = Sample.load(path)
        if not len(sample.coverage):
            continue
        segments = torch.arange(len(sample.coverage))[:: max(1, len(sample.coverage) // 60)]
        batch = collate([sample], [(interior_cells(sample)[segments], segments)])
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16(batch.area.device)):
            output = decoder(decoder.encode(batch.tokens, batch.area), batch.prompts)
        area = batch.area[:, None].expand_as(batch.target)
        iou = cell_iou(output.logits.float() > 0, batch.target, area)[0]
        share = (batch.target * area).sum(dim=-1)[0]
        rows.append(torch.cat([iou, output.predicted_iou[0].float(), share[:, None]], dim=1))
    table = torch.cat(rows)
    iou, score, root = table[:, :3], table[:, 3:6], table[:, 6].sqrt()
    best, top = iou.amax(dim=1), iou.gather(1, score.argmax(dim=1, keepdim=True))[:, 0]
    figures = {
        "best": best.mean(),
        "top": top.mean(),
        "best_root": (best * root).sum() / root.sum(),
        "top_root": (top * root).sum() / root.sum(),
        "correlation": torch.corrcoef(torch.stack([iou.flatten(), score.flatten()]))[0, 1],
    }
    return {name: round(float(value), 4) for name, value in figures.items()}
