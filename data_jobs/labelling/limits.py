"""Limits that are a number of images or a share of them."""

from __future__ import annotations

import re

from everymask.errors import ConfigurationError


def tolerated(limit: str, images: int, name: str) -> float:
    """How many of `images` a limit allows: `N`, or `P%` of them.

    Args:
        limit: as given by the user.
        images: number of all images.
        name: of the setting.

    Raises:
        ConfigurationError: neither form.
    """
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", limit)
    if match is None:
        raise ConfigurationError(f"{name} must be a number or a percentage such as 5%; got {limit!r}")
    return float(match[1]) if match[1] else float(match[2]) / 100 * images
