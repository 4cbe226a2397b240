"""Settings of U-SAM inference: which masks are considered, and which of them become labels."""

from __future__ import annotations

from dataclasses import dataclass, field

from everymask.errors import ConfigurationError


@dataclass(frozen=True)
class MaskConfig:
    """Which masks of an image are described by embeddings ("automatic" mode of SAM, section 3.3 of the paper)."""

    points_per_side: int = 16
    """Prompts along each side of a regular grid. The paper's number is lost; SAM's 32 finds 4 % more objects at four
    times the cost (docs/decisions/classes.md)."""
    points_per_batch: int = 64
    """Prompts decoded at once; changes memory, never the answer."""
    pred_iou_thresh: float = 0.0
    """Masks whose predicted IoU is lower are dropped. 0 keeps all, as the paper does."""
    stability_score_thresh: float = 0.0
    """Masks whose stability score is lower are dropped."""
    stability_score_offset: float = 1.0
    """Logit shift of the stability score, SAM's default."""
    duplicate_iou_thresh: float = 0.7
    """Of masks that overlap more than this, only the one with the best predicted IoU is kept (our choice)."""
    max_masks: int = 256
    """At most so many masks an image, those with the best predicted IoU (our choice)."""

    def __post_init__(self) -> None:
        if min(self.points_per_side, self.points_per_batch, self.max_masks) < 1:
            raise ConfigurationError("points_per_side, points_per_batch and max_masks must be at least 1")
        for name in ("pred_iou_thresh", "stability_score_thresh", "duplicate_iou_thresh"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigurationError(f"{name} must be in [0, 1], not {getattr(self, name)}")


@dataclass(frozen=True)
class ClassesConfig:
    """From mask embeddings to labelled masks (section 3.6)."""

    masks: MaskConfig = field(default_factory=MaskConfig)
    """Which masks are described and classified; must equal what the head was trained on to be of use."""
    score_thresh: float = 0.7
    """Least class probability of a labelled mask; 0.7 in the paper's protocol."""
    class_score_thresh: dict[str, float] = field(default_factory=dict)
    """Other thresholds for single classes, by class name."""
    nms_iou_thresh: float = 0.5
    """Of two masks of one class with more IoU than this, the one with the higher score stays."""
    nms_containment_thresh: float = 0.8
    """Of two masks of one class of which one lies in the other by more than this share, the one with the higher score
    stays (our choice)."""

    def __post_init__(self) -> None:
        unit = {name: getattr(self, name) for name in ("score_thresh", "nms_iou_thresh", "nms_containment_thresh")}
        unit |= {f"class_score_thresh[{name!r}]": value for name, value in self.class_score_thresh.items()}
        for name, value in unit.items():
            if not 0.0 <= value <= 1.0:
                raise ConfigurationError(f"{name} must be in [0, 1], not {value}")
