"""One attempt of a run: earlier attempts' results, and what this one records and shows in the end."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from data_jobs.labelling.config import LabelDatasetConfig, RelabelConfig, StoreOptions
from data_jobs.labelling.estimate import gpu_hour_price
from data_jobs.labelling.failures import failures_line
from data_jobs.labelling.limits import tolerated
from data_jobs.labelling.model_files import ModelFiles
from data_jobs.labelling.output import clear
from data_jobs.labelling.preview import preview_exists, write_preview
from data_jobs.labelling.resume import Finished, reopen_asked, settle_store
from data_jobs.labelling.run_configuration import comparable
from data_jobs.labelling.update import take_over
from data_jobs.runtime.outcome import next_step, tell
from data_jobs.runtime.progress import format_duration
from data_jobs.runtime.settings import as_tree, typed
from data_jobs.runtime.waiting import waiting
from everymask.classes.shipped import settled_head
from everymask.errors import ConfigurationError, OutputError
from everymask.files.addresses import AddressPolicy
from everymask.files.storage import canonical_uri, one_line
from everymask.images.decoding import ImageLimits
from everymask.labels.mending import mend_seals
from everymask.labels.provenance import RunAttempt, RunRecord, differences, package_versions, read_run, write_run
from everymask.labels.run_summary import RunSummary
from everymask.labels.sealing import tidy_all
from everymask.labels.shards import shards_of
from everymask.labels.store import LabelStore, PartSummary
from everymask.labels.visible import UPDATE_FOLDER
from everymask.redaction import redact
from everymask.wording import counted

_ONCE = frozenset({"update", "overwrite", "retry_failed", "verify"})
"""Settings that count for one attempt only."""
_PLACES = frozenset({"input", "output", "embeddings", "save_embeddings", "checkpoint", "local_root"})
"""Settings that name files and folders; the class head and CLIP's model, which may be names, are not among them."""


@dataclass(frozen=True)
class Earlier:
    """The result of earlier attempts in the output.

    Attributes:
        record: their run.json; None if it is missing or will be overwritten.
        finished: their rows that belong to no shard, settled; of shards, the dropped rows.
        has_shards: whether the store has shards.
        started: when this was read, on the monotonic clock.
        updates: the store whose labels this one's will replace; None for none.
    """

    record: RunRecord | None
    finished: Finished
    started: float
    has_shards: bool = False
    updates: LabelStore | None = None

    @classmethod
    def read(
        cls,
        options: StoreOptions,
        store: LabelStore,
        configuration: dict[str, Any],
        files: ModelFiles,
        updates: LabelStore | None = None,
    ) -> Earlier:
        """Read the output and settle the store, except what will be overwritten.

        Args:
            options: the user's, for an output with contents.
            store: the output.
            configuration: the run's, perhaps without what only loading the model tells.
            files: of the run's model.
            updates: the store whose labels this one's will replace.

        Raises:
            ConfigurationError: the output holds labels of another configuration.
            OutputError: the output cannot be written.
        """
        started = time.monotonic()
        if options.overwrite:
            return cls(None, Finished(), started)
        record = read_run(store)
        if record is not None:
            _check_same(store, record, comparable(record.config, configuration), configuration, files)
        with waiting(f"reading which images of {redact(store.uri)} are done"):
            mended = [] if record is None else mend_seals(store, record.config_sha256)
            finished = settle_store(store, options.retry_failed, options.verify)
            shards = bool(shards_of(store.root))
            if shards:
                tidy_all(store)
                reopen_asked(store, options.retry_failed, options.verify, finished)
        for note in [*mended, *finished.notes]:
            print(note, flush=True)
        return cls(record, finished, started, shards, updates)


def _check_same(
    store: LabelStore, record: RunRecord, before: Mapping[str, Any], now: Mapping[str, Any], files: ModelFiles
) -> None:
    if before == now:
        return
    different = "; ".join([*files.differences(record, before, now), *differences(*files.others(before, now))])
    if store.root.name == UPDATE_FOLDER:
        raise ConfigurationError(
            f"{redact(store.uri)} holds an update that was begun with another configuration: {different}. Give that "
            "one again to complete it, or delete that folder to begin anew"
        )
    raise ConfigurationError(
        f"{redact(store.uri)} holds labels made with another configuration: {different}. Choose another --output, or "
        "label anew with --update, which keeps people's corrections, or with --overwrite"
    )


@dataclass(frozen=True)
class Run:
    """A run with an opened output.

    Attributes:
        options: the user's, for an output with contents.
        limits: bounds on reading an image.
        policy: restricts the addresses that are opened.
        store: the output.
        record: the contents of run.json; the last attempt is this one.
        finished: the result of earlier attempts.
        started: on the monotonic clock.
        updates: the store whose labels this one's will replace; None for none.
    """

    options: StoreOptions
    limits: ImageLimits
    policy: AddressPolicy
    store: LabelStore
    record: RunRecord
    finished: Finished
    started: float
    updates: LabelStore | None = None

    @classmethod
    def open(
        cls,
        words: str,
        config: LabelDatasetConfig | RelabelConfig,
        store: LabelStore,
        earlier: Earlier,
        configuration: dict[str, Any],
        device: str,
        precision: str | None = None,
    ) -> Run:
        """Record a new attempt of `everymask WORDS`, on a device and in a number format.

        Raises:
            ConfigurationError: the output holds labels of another configuration.
            OutputError: the output cannot be written.
        """
        record = earlier.record
        if record is not None:
            _check_same(store, record, record.config, configuration, ModelFiles.of(config))
        if config.store.overwrite:
            clear(store)
        elif record is not None and record.rebuilt is not None:
            _replace_run_file(store, record.rebuilt)
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        attempt = RunAttempt(typed(words, config), started_at, device, package_versions(), precision=precision)
        attempts = [*(record.attempts if record else []), attempt]
        record = RunRecord(
            configuration, attempts, record.counts if record else None, settings=repeatable_settings(config)
        )
        write_run(store, record)
        return cls(
            config.store,
            config.limits,
            config.address_policy(),
            store,
            record,
            earlier.finished,
            earlier.started,
            earlier.updates,
        )

    @classmethod
    def without_workers(cls, config: LabelDatasetConfig, store: LabelStore, record: RunRecord, earlier: Earlier) -> Run:
        """Record an attempt of `everymask label` with nothing to label, without loading the model on a worker.

        Raises:
            OutputError: the output cannot be written.
        """
        return cls.open("label", config, store, earlier, record.config, "none")

    def close(self, expected: int | None, added: PartSummary, summary: RunSummary | None = None) -> PartSummary:
        """Count, record and show the store's contents; the attempt's lists, whose addresses may be signed, go.

        Args:
            expected: images that must have a row; None if seals have counted them.
            added: this attempt's labels.
            summary: what it spent, where that is known.
        """
        counts = self._count(expected)
        price = gpu_hour_price(self.updates or self.store)
        tree = summary.as_tree(price) if summary and added.images else None
        attempt = replace(self.record.attempts[-1], seconds=self.seconds, labelled=added.images, summary=tree)
        write_run(self.store, replace(self.record, attempts=[*self.record.attempts[:-1], attempt], counts=counts))
        for done_with in (self.store.pending, self.store.changed):
            done_with.delete()
        changed = added.images or self.finished.dropped or self.finished.notes
        spent = [] if summary is None or tree is None else summary.lines(tree.get("cost"))
        if self.updates is None:
            self._show(self.store, counts, added, spent, bool(changed))
        elif counts.errors > tolerated(self.options.max_errors, counts.images, "max-errors"):
            self._report(self.store, counts, added, spent)
            print(f"these labels do not replace those of {redact(self.updates.uri)}: too many failed", flush=True)
        else:
            take_over(self.updates)
            self._show(self.updates, counts, added, spent, changed=True)
        if tree is not None:
            tell(summary=tree)
        return counts

    def _show(
        self, store: LabelStore, counts: PartSummary, added: PartSummary, spent: Sequence[str], changed: bool
    ) -> None:
        if self.options.previews and (changed or not preview_exists(store)):
            with waiting("drawing the preview"):
                write_preview(store, self.limits, self.options.previews, self.policy)
        self._report(store, counts, added, spent)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self.started, 3)

    def _count(self, expected: int | None) -> PartSummary:
        """The store's totals, with every image counted once."""
        counts = self.store.summary()
        if expected is None:
            return counts
        if counts.images > expected:
            settle_store(self.store)
            counts = self.store.summary()
        if counts.images != expected:
            raise RuntimeError(
                f"{self.store.uri} has {counted(counts.images, 'row')}, expected {expected:,}; "
                "run the same command again"
            )
        return counts

    def _report(self, store: LabelStore, counts: PartSummary, added: PartSummary, summary: Sequence[str]) -> None:
        output = redact(store.uri)
        speed = f" ({added.images / self.seconds:.3g} images/s)" if added.images else ""
        print(
            f"{counted(added.images, 'image')} labelled in {format_duration(self.seconds)}{speed}; {output} holds "
            f"{counted(counts.images, 'image')}, {counted(counts.masks, 'mask')}, {counted(counts.errors, 'error')}",
            flush=True,
        )
        held = {"images": counts.images, "masks": counts.masks, "errors": counts.errors}
        tell(output=output, labelled=added.images, seconds=self.seconds, **held)
        for line in summary:
            print(f"  {line}", flush=True)
        if self.options.previews:
            print(f"look at {output}/preview/index.html", flush=True)
        next_step(f"everymask browse {shlex.quote(output)}")
        if failures := failures_line(store, counts):
            print(failures, flush=True)


def repeatable_settings(config: LabelDatasetConfig | RelabelConfig) -> dict[str, Any]:
    """The settings that run.json keeps: without those of one attempt, and with paths that any directory finds."""
    settings = {name: value for name, value in as_tree(config).items() if name not in _ONCE}
    for name in _PLACES & settings.keys():
        value = settings[name]
        settings[name] = (
            [canonical_uri(one) for one in value] if isinstance(value, list) else value and canonical_uri(value)
        )
    if settings.get("head"):
        settings["head"] = settled_head(settings["head"])
    if (settings.get("names") or "").endswith((".txt", ".json")):
        settings["names"] = canonical_uri(settings["names"])
    clip = settings.get("clip", {})
    if os.path.isdir(clip.get("model", "")):  # else it is a model of the hub
        clip["model"] = canonical_uri(clip["model"])
    return settings


def _replace_run_file(store: LabelStore, why: str) -> None:
    try:
        aside = f"; what was there is now {store.set_aside(store.run_file, 'damaged')}" if store.exists() else ""
    except OSError as error:
        raise OutputError(f"cannot move {store.run_file} out of the way: {one_line(error)}") from error
    print(f"run.json is made anew from the labels beside it, since {why}{aside}", flush=True)
