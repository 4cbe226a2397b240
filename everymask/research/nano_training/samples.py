"""Training samples of the prompt decoder: an image's cell tokens and each segment's coverage of cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.nano.encoder import NanoEncoder
from everymask.backbone.nano.regions import RegionConfig
from everymask.backbone.nano.tokens import CellTokens, describe_image
from everymask.evaluation.ground_truth import UNLABELLED, AnnotatedPicture


@dataclass(frozen=True)
class Sample:
    """A picture ready for the decoder.

    Attributes:
        tokens: unbatched, P cells.
        area: (P,) float32 share of the canvas.
        coverage: (S, P) float16, share of each cell inside each segment of any annotator.
    """

    tokens: CellTokens
    area: torch.Tensor
    coverage: torch.Tensor

    def save(self, path: Path) -> None:
        """Write to a `.npz` atomically."""
        aside = path.with_suffix(".tmp.npz")
        np.savez(
            aside,
            features=self.tokens.features.half().numpy(),
            shape=self.tokens.shape.numpy(),
            planes=self.tokens.planes.numpy(),
            area=self.area.numpy(),
            coverage=self.coverage.numpy(),
        )
        aside.replace(path)

    @staticmethod
    def load(path: Path) -> Sample:
        with np.load(path) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        tokens = CellTokens(arrays["features"], arrays["shape"], arrays["planes"])
        return Sample(tokens, arrays["area"], arrays["coverage"])


def segment_coverage(cell_index: NDArray[np.int64], label_maps: tuple[NDArray[np.int32], ...]) -> NDArray[np.float16]:
    """(S, P) share of each cell in each segment of any map; empty segments have no row."""
    cells = cell_index.reshape(-1)
    count = int(cells.max()) + 1
    area = np.bincount(cells, minlength=count)
    rows = [np.zeros((0, count), dtype=np.float16)]
    for label_map in label_maps:
        labels = label_map.reshape(-1)
        known = labels != UNLABELLED
        if not known.any():
            continue
        _, compact = np.unique(labels[known], return_inverse=True)
        segments = int(compact.max()) + 1
        pixels = np.bincount(compact * count + cells[known], minlength=segments * count).reshape(segments, count)
        rows.append((pixels / area).astype(np.float16))
    return np.concatenate(rows)


def make_sample(picture: AnnotatedPicture, encoder: NanoEncoder, config: RegionConfig) -> Sample:
    """Cells, tokens and coverage of a picture at canvas size."""
    described = describe_image(picture.image, encoder, config)
    area = np.bincount(described.cell_index.reshape(-1)) / described.cell_index.size
    return Sample(
        tokens=CellTokens(*(tensor.cpu().clone() for tensor in described.tokens)),
        area=torch.from_numpy(area.astype(np.float32)),
        coverage=torch.from_numpy(segment_coverage(described.cell_index, picture.label_maps)),
    )
