"""Settings of E-SAM and the plain generator. E-SAM's paper gives its defaults (section 4.3, table 4) unless noted."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from everymask.decided import DECIDED, decided
from everymask.errors import ConfigurationError


@dataclass(frozen=True)
class SuperpixelConfig:
    """Superpixels M_S, computed on the canvas image. The paper gives no values: our choice."""

    method: Literal["felzenszwalb", "slic"] = "felzenszwalb"
    """Felzenszwalb's (section 3.2 of E-SAM), or SLIC, which the paper compares it with."""
    slic_count: int = 300
    """About how many superpixels SLIC makes."""
    scale: float = 100.0
    """scikit-image's `scale`: larger gives larger superpixels."""
    sigma: float = 0.8
    """Standard deviation of the Gaussian that first smooths the image, in canvas pixels."""
    min_area: float = 0.0006
    """Superpixels smaller than this share of the canvas are joined to a neighbour."""

    def __post_init__(self) -> None:
        if self.scale <= 0 or self.sigma < 0 or not 0 <= self.min_area <= 1:
            raise ConfigurationError("superpixels need scale > 0, sigma >= 0 and min_area in [0, 1]")
        if self.slic_count < 1:
            raise ConfigurationError(f"slic_count must be at least 1, not {self.slic_count}")


@dataclass(frozen=True)
class EntityConfig:
    """E-SAM, module by module."""

    mmg: bool = decided(True)
    """Multi-level Mask Generation (section 3.2); without it the plain automatic masks of SAM are the input."""
    emr: bool = decided(True)
    """Entity-level Mask Refinement (section 3.3); without it overlaps go to the higher score."""
    usr: bool = decided(True)
    """Under-Segmentation Refinement (section 3.4); without it uncovered pixels stay uncovered."""
    lazy_gallery: bool = decided(True)
    """Decode gallery prompts only where EMR consults them; changes the time, never the answer."""

    points_per_side: int = 32
    """Prompts along each side of the grid that proposes masks."""
    gallery_points_per_side: int = 64
    """Prompts along each side of the denser grid behind the mask gallery G."""
    points_per_batch: int | None = decided(None)
    """Prompts decoded at once; changes memory, never the answer. None: 512 on a GPU, 64 on a CPU."""
    pred_iou_thresh: float | None = None
    """Proposed masks with a lower predicted IoU are dropped. None: as recommended for the backbone, 0.88 for SAM."""
    stability_score_thresh: float | None = None
    """Proposed masks with a lower stability score are dropped. None: as recommended for the backbone, 0.95 for SAM."""
    stability_score_offset: float = decided(1.0)
    """Logit shift of the stability score (SAM's own default)."""

    object_nms_thresh: float = decided(0.8)
    """θ_O: of two object masks with more IoU than this, the one with the higher predicted IoU stays."""
    best_match_thresh: float = decided(0.6)
    """γ_O (eq. 2): an object mask stays when some point's best mask has at least this IoU with it."""
    part_nms_thresh: float = decided(0.7)
    """N_t (eq. 4): least threshold of the adaptive NMS of part and subpart masks (open in the paper; SAM's own NMS)."""

    overlap_thresh: float = decided(0.05)
    """δ: an overlap that is a smaller share of the larger mask is cut from it; others are contested."""
    guidance_tolerance: float = decided(0.1)
    """τ (eq. 6): a prompt votes for its object mask unless its best mask is predicted better by at least this."""
    vote_iou_thresh: float = decided(0.8)
    """Guidance masks with more IoU than this count as votes for the same mask (our choice)."""
    remnant_thresh: float = decided(0.3)
    """A mask that the settlement of overlaps leaves with a smaller share of itself is dropped (our choice)."""

    merge_neighbours: int = decided(5)
    """k (eq. 7): most similar superpixels counted for each superpixel (open in the paper)."""
    merge_thresh: float = decided(2.0)
    """Least S_M of eq. 7, in [0, k], at which two masks are candidates for merging (open in the paper)."""
    merge_cover_thresh: float = decided(0.9)
    """Eq. 8: a gallery mask encompasses a mask when it covers at least this share of it (open in the paper)."""

    union_thresh: float = decided(0.1)
    """ρ (eq. 10): an additional mask with more IoU than this joins that entity, others become entities."""
    min_gain: float = decided(0.001)
    """The greedy cover stops when no additional mask fills this share of the image (our choice)."""

    superpixels: SuperpixelConfig = field(default_factory=SuperpixelConfig, metadata=DECIDED)

    def __post_init__(self) -> None:
        for name in ("points_per_side", "gallery_points_per_side", "points_per_batch", "merge_neighbours"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}")
        for option in fields(self):
            value = getattr(self, option.name)
            is_share = option.name.endswith(("_thresh", "_tolerance", "_gain")) and option.name != "merge_thresh"
            if is_share and value is not None and not 0.0 <= value <= 1.0:
                raise ConfigurationError(f"{option.name} must be in [0, 1], not {value}")
        if self.merge_thresh <= 0:
            raise ConfigurationError(f"merge_thresh must be above 0, not {self.merge_thresh}")


@dataclass(frozen=True)
class AmgConfig:
    """Settings of the automatic mask generator, with SAM's names and defaults."""

    points_per_side: int = 32
    """Clicks along each side of the grid."""
    points_per_batch: int | None = decided(None)
    """Clicks answered at once; changes memory, never the answer. None: 512 on a GPU, 64 on a CPU."""
    pred_iou_thresh: float | None = None
    """Masks whose predicted IoU is not above this are dropped; 0 keeps all. None: as recommended for the backbone, 0.88
    for SAM."""
    stability_score_thresh: float | None = None
    """Masks with a lower stability score are dropped; 0 keeps all. None: as recommended for the backbone, 0.95 for
    SAM."""
    stability_score_offset: float = decided(1.0)
    """How far the threshold moves for the stability score, in logits."""
    box_nms_thresh: float = 0.7
    """Where the boxes of two masks have more IoU than this, the mask with the higher predicted IoU stays."""
    crop_n_layers: int = 0
    """Layers of crops labelled beside the whole image: 1 adds 2 x 2 crops, 2 another 4 x 4, and so on. Each crop is
    encoded separately. Not available in the service."""
    crop_nms_thresh: float = decided(0.7)
    """The same as `box_nms_thresh`, between masks of different crops; the smaller crop's mask stays."""
    crop_overlap_ratio: float = decided(512 / 1500)
    """Share of the image's shorter side by which the first layer's crops overlap; halved from layer to layer."""
    crop_n_points_downscale_factor: int = decided(1)
    """Divides the clicks along each side from layer to layer."""
    min_mask_region_area: int = decided(0)
    """Holes and islands under this many pixels are removed, and NMS is repeated; 0 leaves masks as they are. For
    comparison with SAM; `min_region_area` does this for every method."""

    def __post_init__(self) -> None:
        for name in ("points_per_side", "points_per_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} is {value}; it must be at least 1")
        if self.stability_score_offset < 0 or self.min_mask_region_area < 0 or self.crop_n_layers < 0:
            raise ConfigurationError(
                "stability_score_offset, min_mask_region_area and crop_n_layers must not be negative"
            )
        if not 0 <= self.crop_overlap_ratio < 1:
            raise ConfigurationError(f"crop_overlap_ratio is {self.crop_overlap_ratio}; it must be in [0, 1)")
        if self.crop_n_points_downscale_factor < 1:
            raise ConfigurationError(
                f"crop_n_points_downscale_factor is {self.crop_n_points_downscale_factor}; it must be at least 1"
            )
