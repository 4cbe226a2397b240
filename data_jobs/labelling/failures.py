"""The images that failed, for the last line of a job."""

from __future__ import annotations

from everymask.errors import InputError
from everymask.labels.store import LabelStore, PartSummary
from everymask.wording import counted

SHOWN = 3


def first_failures(store: LabelStore, count: int = SHOWN) -> list[tuple[str, str]]:
    """(image id, reason) of at most `count` failed images.

    Raises:
        InputError, ConfigurationError: as `LabelStore.headers`.
    """
    parts = store.parts()
    found: list[tuple[str, str]] = []
    for part, header in zip(parts, store.headers(parts), strict=True):
        if len(found) >= count or not header.summary.errors:
            continue
        rows = store.read_columns(part, ["image_id", "status", "error"]).to_pylist()
        found += [(row["image_id"], row["error"] or "it failed") for row in rows if row["status"] == "error"]
    return found[:count]


def failures_line(store: LabelStore, counts: PartSummary) -> str:
    """`2 errors: a.jpg: the file is empty (0 bytes); b.jpg: …`; empty without errors."""
    if not counts.errors:
        return ""
    try:
        shown = first_failures(store)
    except InputError:  # a part that cannot be read is told elsewhere
        return ""
    more = counts.errors - len(shown)
    named = [f"{image_id}: {reason}" for image_id, reason in shown]
    return f"{counted(counts.errors, 'error')}: {'; '.join([*named, *([f'and {more:,} more'] if more else [])])}"
