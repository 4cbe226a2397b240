"""How wrong labels can be, from a sample that a person judged."""

from __future__ import annotations

from scipy.special import betaincinv

from everymask.errors import ConfigurationError
from everymask.wording import counted

CONFIDENCE = 0.95


def largest_error(wrong: int, judged: int, confidence: float = CONFIDENCE) -> float:
    """The share of wrong images that is not exceeded with a confidence, [0, 1].

    The exact one-sided bound of Clopper and Pearson (1934): with more wrong images than this, so few among those that
    were judged would be found less often than `1 - confidence`.

    Args:
        wrong: images that a person changed.
        judged: images drawn at random that a person finished.
        confidence: in (0, 1).

    Raises:
        ConfigurationError: fewer images were judged than were wrong.
    """
    if not 0 <= wrong <= judged:
        raise ConfigurationError(f"of {judged} judged images {wrong} cannot be wrong")
    return 1.0 if wrong == judged else float(betaincinv(wrong + 1, judged - wrong, confidence))


def bound_line(wrong: int, judged: int) -> str:
    """`4 wrong of 200 images drawn at random and judged: error below 4.5 % at 95 %`."""
    if not judged:
        return "none of the images drawn at random was judged yet: what the error is cannot be said"
    bound = largest_error(wrong, judged)
    images = counted(judged, "image")
    return f"{wrong:,} wrong of {images} drawn at random and judged: error below {100 * bound:.1f} % at 95 %"
