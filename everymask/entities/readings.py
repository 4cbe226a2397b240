"""Where E-SAM's paper can be read in two ways. One field each, with the sentence it turns on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from everymask.errors import ConfigurationError


@dataclass(frozen=True)
class PaperReadings:
    """How open sentences of the paper are read. docs/decisions/entities.md tells how the defaults were chosen."""

    score: Literal["agreement", "predicted_iou"] = "agreement"
    """How entities are ranked; the paper is silent. predicted_iou: as AMG's masks are, by the model's estimate.
    agreement: that estimate times the IoU of the entity with the mask it was made for, times the fourth root of the
    entity's share of the image."""

    object_nms_on: Literal["masks", "boxes"] = "masks"
    """3.2, "MMG first applies naive NMS with a high threshold, denoted as θ_O": by the IoU of masks, or of boxes as in
    SAM's own NMS."""
    thin_levels_apart: bool = False
    """3.2, "for each mask level, MMG applies specific strategies": part and subpart masks are thinned each among
    themselves, not together."""

    objects_without_mmg: bool = True
    """3.3, "EMR aims to refine M_O": without MMG, EMR works on the object level of the automatic masks, not on all
    levels."""
    confident_gallery: bool = True
    """Section 1, the gallery "includes a diverse set of high-confidence masks": guidance masks under the thresholds of
    proposed masks do not vote."""
    guidance_must_be_surer: bool = False
    """3.3, "EMR updates M_p and M_q": guidance that is predicted no better than the surer of the two masks leaves it
    the overlap."""
    overlap_goes_to: Literal["shape", "winner"] = "shape"
    """3.3, "using the selected guidance mask G_p". shape: what the guidance covers of the overlap goes to the mask that
    it resembles more, the rest to the other. winner: the mask it resembles more gets the whole overlap."""
    merge_only_adjacent: bool = True
    """Eq. 7, "adjacent mask similarity matrix": only masks at most three canvas pixels apart are merged."""
    encompassing_at_most: float | None = None
    """3.3, "a mask that encompasses both": a gallery mask counts only if it is at most so many times as large as the
    two masks together. None: however large."""
    merged_shape: Literal["pair", "gallery"] = "pair"
    """Eq. 8, "M_a^64 ∪ M_b^64". pair: the union of the two masks. gallery: with what the encompassing mask covers
    beside them, where no other entity is."""

    contained_thresh: float = 0.9
    """Eq. 9, "S_R ⊆ M_P ∪ M_SP": a superpixel is inside a part mask that covers at least this share of it."""
    prompt_inside_part: bool = False
    """Eq. 9, "centroid(M_P ∪ M_SP)": the cell of the part mask closest to its centroid, which may itself lie outside
    the mask."""
    prompt_remainder: bool = False
    """3.4, "the regions in the superpixel map that are not covered": the uncovered part of a superpixel is prompted and
    looked for in part masks, not the whole superpixel."""
    confident_additions: bool = True
    """Abstract, "additional high-confidence masks": additional masks under the thresholds of proposed masks fill
    nothing."""

    def __post_init__(self) -> None:
        if not 0 <= self.contained_thresh <= 1:
            raise ConfigurationError(f"contained_thresh must be in [0, 1], not {self.contained_thresh}")
        if self.encompassing_at_most is not None and self.encompassing_at_most < 1:
            raise ConfigurationError(
                f"encompassing_at_most must be at least 1, not {self.encompassing_at_most}; leave it out for no limit"
            )
