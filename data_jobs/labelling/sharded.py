"""A run of more images than one plan holds: label and seal shard by shard while the rest is listed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import ray

from data_jobs.labelling.attempts import Earlier, Run
from data_jobs.labelling.changes import settle_changes
from data_jobs.labelling.config import LabelDatasetConfig
from data_jobs.labelling.digests import read_on_workers
from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import ImageRef
from data_jobs.labelling.listing import Listed, Listing
from data_jobs.labelling.manifests import Manifest, to_table
from data_jobs.labelling.resume import settle_store
from data_jobs.labelling.shard_addresses import forget_addresses, has_secrets, renew_addresses
from data_jobs.labelling.shard_progress import ShardProgress
from data_jobs.labelling.sharding import (
    add_listed,
    cut,
    drop_unlabelled,
    next_number,
    pending_of,
    write_shard,
)
from data_jobs.labelling.start import Started
from data_jobs.runtime.actors import WRITE_CPUS
from data_jobs.runtime.ahead import ahead
from data_jobs.runtime.machines import Machines
from data_jobs.runtime.ray_data import progress_line
from data_jobs.runtime.waiting import waiting
from everymask.labels.sealing import UnfinishedShardError, seal_shard
from everymask.labels.shards import Shard, shards_of
from everymask.labels.store import LabelStore, PartSummary
from everymask.redaction import redact
from everymask.wording import counted

Start = Callable[[], Started]
"""Starts the workers, and opens the run in its output."""


@dataclass(frozen=True)
class Input:
    """The input and output.

    Attributes:
        config: of the run.
        store: the output.
        images: as they are listed; None if listing would find nothing new.
        list_again: lists them from the first on.
    """

    config: LabelDatasetConfig
    store: LabelStore
    images: Iterator[ImageRef] | None
    list_again: Callable[[], Iterator[ImageRef]]

    def settle(self, listing: Listing) -> list[Shard]:
        """Drop the rows of images whose files changed; returns the shards that label them again.

        No shard is being sealed. Raises as `settle_changes`.
        """
        config, store = self.config, self.store
        if not listing.changed.images or config.store.keep_changed:
            return []
        print(f"reading {counted(listing.changed.images, 'file')} that may have changed since labelling", flush=True)
        changes = settle_changes(store, listing.changed, config.limits, config.address_policy(), read_on_workers)
        print(changes, flush=True)
        of_no_shard = [to_table(changes.replaced)] if changes.replaced else []
        more = write_shard(store, next_number(store), of_no_shard)
        return [*changes.reopened, *([more] if more else [])]


def begin_shards(given: Input, listing: Listing, first: Manifest, start: Start) -> PartSummary:
    """Label an input of more than one shard; returns what the store then holds.

    Args:
        given: its `images` are the new ones after `first`.
        listing: of the input.
        first: the images of the first shard.
        start: called before anything is written.

    Raises:
        EverymaskError: (possibly as the cause of Ray's error) as `Started.label` and `seal_shard`.
    """
    listed = Listed.of(given.config.input, given.config.limit)
    started = start()
    shard = write_shard(given.store, next_number(given.store), first.tables())
    further = ahead(cut(given.store, given.images or iter(()), given.config.shard_images))
    added = _label(started, itertools.chain([shard] if shard else [], further), ShardProgress(listing, ()))
    return _finish(given, listing, listed, started, added)


def resume_shards(given: Input, earlier: Earlier, start: Start) -> PartSummary:
    """Resume a store that has shards; returns what it then holds. Starts no worker if nothing is to be labelled.

    Raises:
        EverymaskError: as `begin_shards`.
    """
    store, listed = given.store, Listed.of(given.config.input, given.config.limit)
    if listed.is_kept_in(store) and not given.config.store.verify:
        given = replace(given, images=None)
    else:
        drop_unlabelled(store)
    sealed = {group.shard.number for group in store.groups() if group.shard and group.is_sealed}
    there = shards_of(store.root)
    print(f"{counted(len(there), 'shard')} from before, {len(sealed):,} of them sealed", flush=True)
    listing = Listing(store, given.images or (), earlier.finished.ids)
    open_ones = [shard for shard in there if shard.number not in sealed]
    if signed := list(filter(has_secrets, open_ones)):
        with waiting(f"listing {redact(given.config.input)} for the addresses of {counted(len(signed), 'shard')}"):
            renew_addresses(signed, given.list_again())
    shards = itertools.chain(open_ones, ahead(_further(given, listing, earlier.finished.ids)))
    first = next(shards, None)
    reopened = [] if first else given.settle(listing)
    if first is None and not reopened and earlier.record is not None:
        listed.keep_in(store)
        return Run.without_workers(given.config, store, earlier.record, earlier).close(None, PartSummary())
    started = start()
    progress = ShardProgress(listing, [*open_ones, *reopened])
    added = _label(started, itertools.chain([first] if first else [], shards, reopened), progress)
    return _finish(given, listing, listed, started, added)


def _further(given: Input, listing: Listing, known: IdSet) -> Iterator[Shard]:
    """New shards of the listed images that are in none yet."""
    if given.images is None:
        return
    add_listed(given.store, known)
    yield from cut(given.store, listing.new(), given.config.shard_images)


def _finish(given: Input, listing: Listing, listed: Listed, started: Started, added: PartSummary) -> PartSummary:
    """What is left once all is listed and sealed: images whose files changed."""
    if reopened := given.settle(listing):
        added += _label(started, reopened, ShardProgress(listing, ()))
    listed.keep_in(given.store)
    return started.close_as_foretold(None, added)


def _label(started: Started, shards: Iterable[Shard], progress: ShardProgress) -> PartSummary:
    """Label shards and seal them; one is sealed while the next is labelled. Returns what was added."""
    store, options = started.run.store, started.run.options
    sealer = Sealer(store, started.run.record.config_sha256, started.totals.metrics.shard_sealed)
    added = PartSummary()
    machines = Machines(started.crew.actors.worker)
    started.guard.expect(progress.to_label)

    def told() -> str:
        return " · ".join(filter(None, (progress.note(), machines.news())))

    with progress_line(progress.total, "labelled", told) as line:
        for shard in shards:
            done = settle_store(store, options.retry_failed, options.verify, shard)
            for note in done.notes:
                print(note, flush=True)
            progress.skip(len(done.ids), done.errors)
            pending = pending_of(store, shard, done.ids)

            def tell(finished: int, failed: int) -> None:
                line.update(*progress.within(finished, failed))

            made = started.label(pending, shard.number, tell)
            added += made
            progress.add(pending.images, made.errors)
            print(f"shard {shard.name} is labelled; so far {started.guard}", flush=True)
            sealer.begin(shard)
    sealer.wait()
    return added


class Sealer:
    """Seals shards in the background, one at a time.

    Args:
        store: the label store.
        config_sha256: of the run's configuration.
        sealed: called for each shard once it is sealed, in a thread of Ray's.
    """

    def __init__(self, store: LabelStore, config_sha256: str, sealed: Callable[[], None]) -> None:
        self._store = store
        self._config_sha256 = config_sha256
        self._sealed = sealed
        self._task: ray.ObjectRef[None] | None = None

    def begin(self, shard: Shard) -> None:
        """Start sealing a finished shard once the one before is sealed. Raises as `wait`."""
        self.wait()
        self._task = _seal.remote(self._store, shard.number, self._config_sha256)
        # Not when it is waited for: that is after the next shard, which may take hours.
        self._task.future().add_done_callback(self._count)

    def wait(self) -> None:
        """Wait until all is sealed.

        Raises:
            EverymaskError: (as the cause of Ray's error) as `seal_shard`.
        """
        if self._task is not None:
            ray.get(self._task)
            self._task = None

    def _count(self, sealing: Future[Any]) -> None:
        if sealing.exception() is None:
            self._sealed()


@ray.remote(num_cpus=WRITE_CPUS, max_calls=1)  # what it held goes with the worker process
def _seal(store: LabelStore, number: int, config_sha256: str) -> None:
    shard = Shard(store.root, number)
    try:
        seal_shard(store, shard, config_sha256)
    except UnfinishedShardError:  # a task that Ray did twice may have written a row twice
        settle_store(store, shard=shard)
        seal_shard(store, shard, config_sha256)
    forget_addresses(shard)
