"""The mask gallery G: what a dense grid of prompts says, asked only where needed (E-SAM sections 3.2 and 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.entities.config import EntityConfig
from everymask.entities.prompting import decode_batches, guidance_of_each_prompt, point_grid


@dataclass(frozen=True)
class Guidance:
    """The guidance masks G_p (eq. 6) of some prompts, equal ones once.

    Attributes:
        masks: (G, P) bool.
        predicted_iou: (G,) float32.
        votes: (G,) int64, prompts that gave each.
    """

    masks: torch.Tensor
    predicted_iou: torch.Tensor
    votes: torch.Tensor


class Gallery:
    """Guidance masks of a dense point grid.

    A prompt is decoded the first time a region that holds it is consulted, or at the start when the gallery is eager.
    Either way a consultation sees the same prompts and the same answers, so laziness changes nothing but the time.
    """

    def __init__(self, backbone: PromptableBackbone, embedding: ImageEmbedding, config: EntityConfig) -> None:
        self._backbone = backbone
        self._embedding = embedding
        self._config = config
        canvas = embedding.canvas
        device = canvas.cell_area.device
        points = point_grid(canvas.original_size_hw, config.gallery_points_per_side, device)
        representative, self._prompt_of_point = backbone.distinct_points(embedding, points)
        self._prompts = points[representative]
        self._cell_of_point = canvas.cells_at(points)
        self._row_of_prompt = torch.full((len(self._prompts),), -1, dtype=torch.int64, device=device)
        self._masks = torch.zeros((0, canvas.num_cells), dtype=torch.bool, device=device)
        self._predicted_iou = torch.zeros(0, device=device)
        if not config.lazy_gallery:
            self.prepare(torch.ones(canvas.num_cells, dtype=torch.bool, device=device))

    @property
    def num_decoded(self) -> int:
        """Distinct prompts decoded so far."""
        return int(self._masks.shape[0])

    def prepare(self, region: torch.Tensor) -> None:
        """Decode every prompt in the (P,) bool region that is not decoded yet, in full batches.

        Raises:
            ModelOutputError: the backbone answered with NaN or infinity.
        """
        prompts = torch.unique(self._prompt_of_point[region[self._cell_of_point]])
        missing = prompts[self._row_of_prompt[prompts] < 0]
        if not missing.numel():
            return
        batches = decode_batches(self._backbone, self._embedding, self._prompts[missing], self._config)
        guidance = [answers[guidance_of_each_prompt(answers, self._config.guidance_tolerance)] for answers in batches]
        self._row_of_prompt[missing] = self.num_decoded + torch.arange(missing.numel(), device=missing.device)
        self._masks = torch.cat([self._masks, *(answers.masks for answers in guidance)])
        self._predicted_iou = torch.cat([self._predicted_iou, *(answers.predicted_iou for answers in guidance)])

    def consult(self, region: torch.Tensor) -> Guidance:
        """The guidance masks of the prompts in the (P,) bool region, in the order of the grid.

        Raises:
            ModelOutputError: the backbone answered with NaN or infinity.
        """
        self.prepare(region)
        prompts, votes = torch.unique(self._prompt_of_point[region[self._cell_of_point]], return_counts=True)
        rows = self._row_of_prompt[prompts]
        return Guidance(self._masks[rows], self._predicted_iou[rows], votes)
