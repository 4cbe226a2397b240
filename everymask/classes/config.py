"""Settings of U-SAM inference: the masks that are considered, and the rules by which they become labels."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from everymask.decided import DECIDED, decided
from everymask.errors import ConfigurationError

Recipe = Literal["default", "paper"]
"""U-SAM as derived by us, or as published (`everymask.classes.recipes`)."""


@dataclass(frozen=True)
class MaskConfig:
    """The masks of an image that embeddings describe ("automatic" mode of SAM, section 3.3 of the paper)."""

    points_per_side: int = 16
    """Prompts along each side of a regular grid. The paper's number is lost; SAM's 32 finds 4 % more objects at four
    times the cost (docs/decisions/classes.md)."""
    points_per_batch: int | None = decided(None)
    """Prompts decoded at once; changes memory, never the answer. None: 512 on a GPU, 64 on a CPU."""
    pred_iou_thresh: float = decided(0.0)
    """Masks whose predicted IoU is lower are dropped. 0 keeps all, as the paper does."""
    stability_score_thresh: float = decided(0.0)
    """Masks whose stability score is lower are dropped."""
    stability_score_offset: float = decided(1.0)
    """Logit shift of the stability score, SAM's default."""
    duplicate_iou_thresh: float = 0.7
    """Masks that overlap a mask of higher predicted IoU by more than this are dropped (our choice); 1 keeps all."""
    max_masks: int | None = 256
    """Most masks, best predicted IoU first (our choice); None keeps all."""
    describer: Literal["none", "crop"] = "none"
    """crop: an ImageNet encoder looks at a crop of every mask, for heads that read `crop` (our choice). It takes some
    11 ms a mask on a CPU core, so only masks within `max_described` and `min_described_area` are kept."""
    max_described: int = decided(48)
    """Most masks with a describer: those with the highest predicted IoU times the fourth root of their share of the
    image."""
    min_described_area: float = decided(0.003)
    """With a describer: masks that cover a smaller share of the image are dropped."""

    def __post_init__(self) -> None:
        most = 1 if self.max_masks is None else self.max_masks
        if min(self.points_per_side, self.points_per_batch or 1, most, self.max_described) < 1:
            raise ConfigurationError(
                "points_per_side, points_per_batch, max_masks and max_described must be at least 1"
            )
        for name in ("pred_iou_thresh", "stability_score_thresh", "duplicate_iou_thresh", "min_described_area"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigurationError(f"{name} must be in [0, 1], not {getattr(self, name)}")


@dataclass(frozen=True)
class ClipConfig:
    """SAM + CLIP, the baseline of the paper (section 4, table 3): names to masks without exemplars."""

    names: tuple[str, ...] = ()
    """The classes. CLIP compares them with each other, so at least two; `background` may be one of them."""
    model: str = "openai/clip-vit-base-patch32"
    """A CLIP model of transformers: its name on the hub, or a local folder."""
    prompt: str = decided("a photo of a {c}")
    """The text that is compared with a mask; {c} is the name."""
    view: Literal["masked", "crop"] = decided("masked")
    """masked: the picture multiplied by the mask, as in the paper; crop: a square around the mask, its surroundings
    greyed (our choice)."""
    score_thresh: float = 0.7
    """Least probability of a labelled mask."""
    nms_iou_thresh: float = decided(0.5)
    """Of two masks of one class with more IoU than this, the one with the lower probability is dropped."""
    batch_size: int = decided(32)
    """Masks that CLIP looks at together."""
    masks: MaskConfig = field(default_factory=MaskConfig, metadata=DECIDED)
    """The masks that CLIP looks at."""

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or any(not name.strip() for name in self.names):
            raise ConfigurationError(f"class names must be different and not empty; got {', '.join(self.names)}")
        if "{c}" not in self.prompt:
            raise ConfigurationError(f"the prompt {self.prompt!r} must hold {{c}}, the place of the class name")
        if self.batch_size < 1:
            raise ConfigurationError(f"batch_size must be at least 1, not {self.batch_size}")
        for name in ("score_thresh", "nms_iou_thresh"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigurationError(f"{name} must be in [0, 1], not {getattr(self, name)}")


@dataclass(frozen=True)
class ConceptsConfig:
    """SAM 3's own answer to names: every object that a phrase describes, without exemplars."""

    names: tuple[str, ...] = ()
    """The phrases, of at most 32 tokens each. Those in `classes` count as one class, others as their own."""
    classes: dict[str, str] = field(default_factory=dict)
    """The class of a phrase that is not a class by itself: `{tabby cat: cat}`."""
    negatives: tuple[str, ...] = ()
    """Phrases that compete with the names, and are never labelled."""
    score_thresh: float = 0.5
    """Least score of a labelled mask, as SAM 3's publisher has it: its confidence times how sure it is that the image
    shows the name at all."""
    overlaps: Literal["settle", "keep"] = "settle"
    """settle: masks that repeat one of their class go, as with method classes, and what two classes claim alike belongs
    to the likelier one; keep: every mask that SAM 3 finds."""
    nms_iou_thresh: float = decided(0.5)
    """Of two masks of one class with more IoU than this, the one with the lower score is dropped."""
    nms_containment_thresh: float = decided(0.8)
    """If more than this share of a mask lies in another of its class, the one with the lower score is dropped."""
    same_iou_thresh: float = decided(0.7)
    """Masks of two classes that have more IoU than this are one object, of the likelier class (our choice; it is what
    makes two masks one for method classes, too)."""
    max_masks: int = decided(1000)
    """Most masks of an image, best scores first; bounds memory."""
    names_per_batch: int = decided(4)
    """Names answered at once; changes memory, never the answer."""

    def __post_init__(self) -> None:
        check_phrases((*self.names, *self.negatives))
        strangers = sorted(set(self.classes) - set(self.names))
        if strangers:
            raise ConfigurationError(f"{', '.join(strangers)} is given a class, but is not among the names")
        for name in ("score_thresh", "nms_iou_thresh", "nms_containment_thresh", "same_iou_thresh"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigurationError(f"{name} must be in [0, 1], not {getattr(self, name)}")
        if min(self.max_masks, self.names_per_batch) < 1:
            raise ConfigurationError("max_masks and names_per_batch must be at least 1")

    @property
    def class_names(self) -> tuple[str, ...]:
        """C classes in the order of their first name; class_id is the index."""
        return tuple(dict.fromkeys(self.classes.get(name, name) for name in self.names))


def check_phrases(phrases: Sequence[str]) -> None:
    """Refuse phrases that are empty, or that a model reads alike.

    Raises:
        ConfigurationError: naming them.
    """
    known: dict[str, str] = {}
    for phrase in phrases:
        folded = " ".join(unicodedata.normalize("NFKC", phrase).casefold().split())
        if not folded:
            raise ConfigurationError("one of the names is empty; write a word, or leave out a comma")
        if folded in known:
            raise ConfigurationError(
                f"the names {known[folded]!r} and {phrase!r} are the same but for case and spaces; leave one out"
            )
        known[folded] = phrase


@dataclass(frozen=True)
class ClassesConfig:
    """From mask embeddings to labelled masks (section 3.6)."""

    masks: MaskConfig = field(default_factory=MaskConfig)
    """Which masks are described and classified; must equal what the head was trained on to be of use."""
    score_thresh: float | None = None
    """Least class probability of a labelled mask. None: the class head's, from its training or its backbone (0.7 for
    SAM, as in the paper, 0.5 for nano)."""
    class_score_thresh: dict[str, float] = field(default_factory=dict)
    """Other thresholds for single classes, by class name."""
    score: Literal["probability_times_iou", "probability"] = "probability_times_iou"
    """The rank of masks: by the probability alone, as in the paper, or times predicted IoU (our choice), so that a sure
    class on a poor mask counts less. Parts are often surer of their class than the whole object."""
    area_exponent: float = 0.25
    """Suppression ranks masks by score times this power of their share of the image (our choice): of two masks that
    repeat each other, the larger is more often the whole object. 0 ranks by score alone, as in the paper."""
    nms_iou_thresh: float = 0.5
    """Of two masks of one class with more IoU than this, the lower-ranked one is dropped."""
    nms_containment_thresh: float = 0.8
    """If more than this share of a mask lies in another of its class, the lower-ranked one is dropped (our choice); 1
    turns this off."""

    def __post_init__(self) -> None:
        unit = {name: getattr(self, name) for name in ("nms_iou_thresh", "nms_containment_thresh")}
        unit |= {} if self.score_thresh is None else {"score_thresh": self.score_thresh}
        unit |= {f"class_score_thresh[{name!r}]": value for name, value in self.class_score_thresh.items()}
        if self.area_exponent < 0:
            raise ConfigurationError(f"area_exponent must not be negative, not {self.area_exponent}")
        for name, value in unit.items():
            if not 0.0 <= value <= 1.0:
                raise ConfigurationError(f"{name} must be in [0, 1], not {value}")
