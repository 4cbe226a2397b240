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
        ConfigurationError: neither form, or more than 100 %.
    """
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", limit)
    if match is None or float(match[2] or 0) > 100:
        raise ConfigurationError(f"{name} must be a number or a percentage up to 100%, such as 5%; got {limit!r}")
    return float(match[1]) if match[1] else float(match[2]) / 100 * images
