"""Masks on a canvas with their scores and prompts, filtered together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum

import torch

from everymask.backbone.protocol import PromptMasks
from everymask.masks.overlap import mask_areas
from everymask.masks.stability import stability_scores


class Level(IntEnum):
    """The rank by area among the three masks of one prompt (E-SAM eq. 1)."""

    OBJECT = 0
    PART = 1
    SUBPART = 2


@dataclass(frozen=True)
class MaskSet:
    """M masks over the P cells of one canvas; indexing filters every field together.

    Attributes:
        masks: (M, P) bool.
        logits: (M, P) float, > 0 exactly where `masks` is True when they come from prompts.
        predicted_iou: (M,) float32, the model's own estimate, about [0, 1].
        stability_score: (M,) float32 in [0, 1].
        point_coords: (M, 2) float32, the prompting points (x, y) in original pixels.
        level: (M,) int64, values of `Level`.
        tokens: (M, C) float32 mask tokens.
    """

    masks: torch.Tensor
    logits: torch.Tensor
    predicted_iou: torch.Tensor
    stability_score: torch.Tensor
    point_coords: torch.Tensor
    level: torch.Tensor
    tokens: torch.Tensor

    def __post_init__(self) -> None:
        lengths = {field.name: getattr(self, field.name).shape[0] for field in fields(self)}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"every field needs one row a mask; got {lengths}")
        if self.masks.dtype != torch.bool or self.masks.shape != self.logits.shape:
            raise ValueError(
                f"masks must be bool of the logits' shape {tuple(self.logits.shape)}; "
                f"got {tuple(self.masks.shape)} {self.masks.dtype}"
            )

    def __len__(self) -> int:
        return int(self.masks.shape[0])

    def __getitem__(self, index: torch.Tensor | slice) -> MaskSet:
        """The masks at `index`: a slice, (K,) int64 positions or (M,) bool."""
        return MaskSet(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    @classmethod
    def concatenate(cls, sets: Sequence[MaskSet]) -> MaskSet:
        """The masks of one or more sets, in order."""
        return cls(**{field.name: torch.cat([getattr(one, field.name) for one in sets]) for field in fields(cls)})

    @classmethod
    def from_prompts(cls, answers: PromptMasks, cell_area: torch.Tensor, stability_offset: float = 1.0) -> MaskSet:
        """All 3N masks of N prompts, three neighbours a prompt in the model's order.

        Levels follow E-SAM eq. 1: the largest mask of a prompt is its object, then part, then subpart; equal areas keep
        the model's order.
        """
        count, per_prompt, _ = answers.logits.shape
        logits = answers.logits.flatten(0, 1)
        masks = logits > 0
        areas = mask_areas(masks, cell_area).reshape(count, per_prompt)
        by_area = torch.sort(areas, dim=1, descending=True, stable=True).indices
        level = torch.empty_like(by_area)
        level.scatter_(1, by_area, torch.arange(per_prompt, device=level.device).expand_as(by_area))
        return cls(
            masks=masks,
            logits=logits,
            predicted_iou=answers.predicted_iou.flatten(),
            stability_score=stability_scores(logits, cell_area, stability_offset).to(torch.float32),
            point_coords=answers.point_coords.repeat_interleave(per_prompt, dim=0),
            level=level.reshape(-1),
            tokens=answers.tokens.flatten(0, 1),
        )
