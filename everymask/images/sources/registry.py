"""Every kind of container that images are read from. A new one is a module, and a place in this list."""

from __future__ import annotations

from everymask.images.sources.arrow import ARROW
from everymask.images.sources.parquet import PARQUET
from everymask.images.sources.source import Source
from everymask.images.sources.tar import TAR
from everymask.images.sources.video import VIDEO
from everymask.records import MemberKind

SOURCES: tuple[Source, ...] = (TAR, PARQUET, ARROW, VIDEO)
SUFFIXES = tuple(suffix for source in SOURCES for suffix in source.suffixes)


def source_of(name: str) -> Source | None:
    """The source whose files are named like this; None for other files."""
    lower = name.lower()
    return next((source for source in SOURCES if lower.endswith(source.suffixes)), None)


def source_for(kind: MemberKind) -> Source | None:
    """The source that reads members of a kind; None where this everymask has none."""
    return next((source for source in SOURCES if kind in source.kinds), None)
