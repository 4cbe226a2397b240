from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: `1 image`, `1,200 images`, `2 classes`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
