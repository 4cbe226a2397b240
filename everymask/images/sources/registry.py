"""Every kind of container that images are read from. A new one is a module, and a place in this list."""

from __future__ import annotations

from everymask.images.sources.arrow import ARROW
from everymask.images.sources.options import DEFAULT_OPTIONS, SourceOptions
from everymask.images.sources.pages import PAGES
from everymask.images.sources.parquet import PARQUET
from everymask.images.sources.source import Source
from everymask.images.sources.tar import TAR
from everymask.images.sources.video import VIDEO
from everymask.records import MemberKind

SOURCES: tuple[Source, ...] = (TAR, PARQUET, ARROW, VIDEO)
SUFFIXES = tuple(suffix for source in SOURCES for suffix in source.suffixes)


def source_of(name: str, options: SourceOptions = DEFAULT_OPTIONS) -> Source | None:
    """The source whose files are named like this; None for other files, images among them unless all pages count."""
    lower = name.lower()
    sources = (*SOURCES, PAGES) if options.all_pages else SOURCES
    return next((source for source in sources if lower.endswith(source.suffixes)), None)


def source_for(kind: MemberKind) -> Source | None:
    """The source that reads members of a kind; None where this everymask has none."""
    return next((source for source in (*SOURCES, PAGES) if kind in source.kinds), None)
