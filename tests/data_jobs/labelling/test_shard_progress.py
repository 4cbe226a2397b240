"""One line for all shards, whose end moves away while the input is listed."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import ImageRef
from data_jobs.labelling.listing import Listing
from data_jobs.labelling.shard_progress import ShardProgress
from data_jobs.labelling.sharding import cut
from data_jobs.runtime.progress import ProgressLine
from everymask.labels.store import LabelStore


def test_the_line_grows_with_the_listing_and_goes_on_over_shards(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    refs = [ImageRef(f"{number:05d}", f"/in/{number:05d}") for number in range(6000)]
    (before,) = cut(store, iter(refs[:1000]), 1000)
    listing = Listing(store, refs[1000:], IdSet())
    new = listing.new()
    progress = ShardProgress(listing, [before])
    line = ProgressLine(progress.total, StringIO(), note=progress.note)
    assert progress.to_label() == 1000
    assert (
        line.text(*progress.within(500, 0), now=0)
        == "labelled 500 of 1,000 (50.0%) · measuring · shard 1 · still listing"
    )
    next(new)
    progress.skip(300, 1)
    progress.add(700, 1)
    assert line.text(*progress.within(96, 1), now=0).startswith("labelled 1,096 of 5,096 (21.5%) · 3 errors")
    assert len(list(new)) == 4999
    assert (progress.total(), progress.to_label()) == (6000, 5700)
    assert line.text(*progress.within(5000, 1), now=0) == "labelled 6,000 of 6,000 (100.0%) · 3 errors · shard 2"
