"""What a user may say of images that lie inside something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from everymask.errors import ConfigurationError

_MOST_SECONDS = 10**6


@dataclass(frozen=True)
class SourceOptions:
    """What is taken of tables, videos, and files with pages."""

    column: str | None = None
    """Column of a table that holds the images or their addresses. By default it is found: `uri`, `image`, or the only
    one that can be it."""
    id_column: str | None = None
    """Column of a table that names the images. By default `image_id`, `__key__` or `id`, else rows are counted."""
    frames: str | None = None
    """Of a video: seconds between two pictures, or `key` for its key frames; 1 by default. Given, videos that lie
    beside images are taken, too."""

    all_pages: bool = False
    """All pages of a TIFF and all frames of an animation (GIF, WebP, APNG) in a folder or a glob; else the first."""

    def __post_init__(self) -> None:
        self.frames_apart()

    def frames_apart(self) -> int | Literal["key"]:
        """Milliseconds between two pictures of a video, or `key`."""
        if self.frames == "key":
            return "key"
        try:
            milliseconds = round(float(self.frames or 1) * 1000)
        except (ValueError, OverflowError):
            milliseconds = 0
        if not 1 <= milliseconds <= _MOST_SECONDS * 1000:
            raise ConfigurationError(
                f"frames must be seconds from 0.001 to {_MOST_SECONDS}, or key; got {self.frames!r}"
            )
        return milliseconds


DEFAULT_OPTIONS = SourceOptions()
