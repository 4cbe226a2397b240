"""How far a run in shards is, as one line from the first image to the last."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow.parquet as pq

from data_jobs.labelling.listing import Listing
from everymask.labels.shards import Shard


class ShardProgress:
    """Counts what is to be done while it is still being listed.

    Args:
        listing: of the input; what is new in it is to be done.
        before: shards that are to be done, too.
    """

    def __init__(self, listing: Listing, before: Iterable[Shard]) -> None:
        self._listing = listing
        self._before = sum(_images(shard) for shard in before)
        self._done = self._errors = self._shards = self._skipped = 0

    def total(self) -> int:
        """Images of this attempt, as far as they are listed."""
        return self._before + self._listing.found

    def to_label(self) -> int:
        """Images without a row at the start of this attempt, as far as that is known."""
        return self.total() - self._skipped

    def note(self) -> str:
        """`shard 3 · still listing`."""
        return f"shard {self._shards + 1}{'' if self._listing.ended else ' · still listing'}"

    def within(self, finished: int, errors: int) -> tuple[int, int]:
        """Images and errors in all, with those of the shard that is being labelled."""
        return self._done + finished, self._errors + errors

    def skip(self, images: int, errors: int) -> None:
        """Count the rows that a shard has before it is labelled."""
        self._done += images
        self._errors += errors
        self._skipped += images

    def add(self, images: int, errors: int) -> None:
        """Count what was labelled of a shard, which is then done."""
        self._done += images
        self._errors += errors
        self._shards += 1


def _images(shard: Shard) -> int:
    found = 0
    for file in shard.manifest_files():
        with file.open() as stream:
            found += pq.ParquetFile(stream).metadata.num_rows
    return found
