"""Random views of annotated pictures, described once by the trained encoder and kept as files."""

from __future__ import annotations

import multiprocessing
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from everymask.backbone.nano.backbone import LONGEST_SIDE_PX
from everymask.backbone.nano.encoder import NanoEncoder
from everymask.backbone.nano.regions import RegionConfig
from everymask.evaluation.ground_truth import AnnotatedPicture, PictureReference
from everymask.research.nano_training.augment import AugmentConfig, random_view, resize
from everymask.research.nano_training.samples import make_sample


@dataclass(frozen=True)
class CacheConfig:
    views: float = 1.0
    """Number of random views, as a multiple of the usual for each source."""
    processes: int = 2
    """Number of single-threaded processes."""
    augment: AugmentConfig | None = field(default_factory=AugmentConfig)
    """None keeps the pictures as they are, at canvas size."""


def canvas_picture(picture: AnnotatedPicture) -> AnnotatedPicture:
    """The picture at the size of the backbone's canvas."""
    height, width = picture.image.shape[:2]
    scale = min(1.0, LONGEST_SIDE_PX / max(height, width))
    return resize(picture, (max(1, round(height * scale)), max(1, round(width * scale))))


@dataclass(frozen=True)
class _Describer:
    views: list[tuple[PictureReference, int]]
    folder: Path
    encoder: NanoEncoder
    regions: RegionConfig
    augment: AugmentConfig | None
    seed: int

    def write(self, position: int) -> None:
        reference, view = self.views[position]
        path = sample_path(self.folder, reference, view)
        if path.is_file():
            return
        make_sample(self._view(reference, view), self.encoder, self.regions).save(path)

    def _view(self, reference: PictureReference, view: int) -> AnnotatedPicture:
        if self.augment is None:
            return canvas_picture(reference.read())
        rng = np.random.default_rng([self.seed, zlib.crc32(reference.name.encode()), view])
        other = self.views[int(rng.integers(len(self.views)))][0]
        donor = other.read() if rng.random() < self.augment.paste_probability else None
        return random_view(reference.read(), donor, self.augment, rng)


def sample_path(folder: Path, reference: PictureReference, view: int) -> Path:
    """The file of a view of a picture."""
    return folder / f"{reference.name.replace('/', '-')}.{view}.npz"


def _run_share(describer: _Describer, share: int, shares: int) -> None:
    torch.set_num_threads(1)
    for position in range(share, len(describer.views), shares):
        describer.write(position)


def write_cache(
    views: list[tuple[PictureReference, int]],
    folder: Path,
    encoder: NanoEncoder,
    regions: RegionConfig,
    config: CacheConfig,
    seed: int,
    report: Callable[[int], None],
) -> list[Path]:
    """Describe views of pictures, keeping existing files; returns all paths.

    `report` is called now and then with the number of finished files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    describer = _Describer(views, folder, encoder.cpu(), regions, config.augment, seed)
    paths = [sample_path(folder, reference, view) for reference, view in views]
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_run_share, args=(describer, share, config.processes), daemon=True)
        for share in range(config.processes)
    ]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        for worker in workers:
            worker.join(timeout=5)
        report(sum(path.is_file() for path in paths))
    for worker in workers:
        if worker.exitcode:
            raise RuntimeError(
                f"a worker that describes pictures ended with code {worker.exitcode}; its error is above"
            )
    return paths
