"""One run of the labelling job: what it works on, and its steps from listing images to the final count."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from data_jobs.labelling.changes import settle_changes
from data_jobs.labelling.config import EstimateConfig, LabelDatasetConfig, RelabelConfig, StoreOptions, tolerated_errors
from data_jobs.labelling.estimate import draw_sample
from data_jobs.labelling.estimate import load as load_estimate
from data_jobs.labelling.estimate import save as save_estimate
from data_jobs.labelling.failures import failures_line
from data_jobs.labelling.inputs import ImageRef, list_images
from data_jobs.labelling.model_spec import ModelFacts, ModelSpec
from data_jobs.labelling.output import OutputLock, clear, prepare
from data_jobs.labelling.pipeline import inspect_model, label_pending
from data_jobs.labelling.preview import preview_exists, write_preview
from data_jobs.labelling.prices import parse_prices
from data_jobs.labelling.resume import Finished, Pending, settle_store, write_pending
from data_jobs.labelling.run_configuration import comparable, configuration_without_model, run_configuration
from data_jobs.labelling.skipped import Skipped
from data_jobs.runtime.actors import Actors, Footprint, connect, plan_actors
from data_jobs.runtime.exit_codes import DONE, TOO_MANY_ERRORS
from data_jobs.runtime.outcome import next_step, tell
from data_jobs.runtime.progress import format_duration
from data_jobs.runtime.scheduling import check_schedulable, parse_labels
from data_jobs.runtime.settings import as_tree, typed
from data_jobs.runtime.waiting import waiting
from everymask.backbone.devices import device_for
from everymask.backbone.models import find_model
from everymask.classes.shipped import settled_head
from everymask.errors import ConfigurationError, OutputError
from everymask.files.addresses import AddressPolicy
from everymask.files.storage import canonical_uri, one_line
from everymask.images.decoding import ImageLimits
from everymask.labels.provenance import RunAttempt, RunRecord, differences, package_versions, read_run, write_run
from everymask.labels.store import LabelStore, PartSummary
from everymask.redaction import redact
from everymask.wording import counted

_ONCE = frozenset({"overwrite", "discard_corrections", "retry_failed", "verify"})
"""Settings that are asked for this once."""
_PLACES = frozenset({"input", "output", "embeddings", "save_embeddings", "checkpoint", "local_root"})
"""Settings that name files and folders, beside the class head and the model of CLIP, which may be names."""


def label(config: LabelDatasetConfig) -> int:
    """Label whatever is not labelled yet; returns the exit code.

    Raises:
        EverymaskError: (or an error of Ray with one as its cause) usage, configuration, or an output that cannot be
            written.
    """
    return _run(config.store, lambda store: _label_images(config, store, None))


def estimate(config: EstimateConfig) -> int:
    """Label a sample of what is not labelled yet, and say what all takes; returns the exit code. Raises as `label`."""
    return _run(config.label.store, lambda store: _label_images(config.label, store, config))


def relabel(config: RelabelConfig) -> int:
    """Label the images of mask embeddings that have no row yet; returns the exit code. Raises as `label`."""
    return _run(config.store, lambda store: _label_embeddings(config, store))


def _run(options: StoreOptions, work: Callable[[LabelStore], PartSummary]) -> int:
    store = LabelStore(canonical_uri(options.output))
    prepare(store, options.overwrite, options.discard_corrections)
    with OutputLock(store):
        return _exit_code(options, work(store))


@dataclass(frozen=True)
class Earlier:
    """What earlier attempts left in the output.

    Attributes:
        record: what their run.json says; None where there is none, or it will be overwritten.
        finished: their rows, settled.
        started: when this was read, on the monotonic clock.
    """

    record: RunRecord | None
    finished: Finished
    started: float

    @classmethod
    def read(cls, options: StoreOptions, store: LabelStore, configuration: dict[str, Any]) -> Earlier:
        """Read it, and settle the store; what is to be overwritten stays as it is.

        Args:
            options: what becomes of what is there.
            store: the output.
            configuration: the run's, as far as it is known: what only a look into the model tells may be missing.

        Raises:
            ConfigurationError: the output holds labels of another configuration.
            OutputError: the output cannot be written.
        """
        started = time.monotonic()
        if options.overwrite:
            return cls(None, Finished(), started)
        record = read_run(store)
        if record is not None:
            _check_same(options.output, comparable(record.config, configuration), configuration)
        with waiting(f"reading which images of {redact(store.uri)} are done"):
            finished = settle_store(store, options.retry_failed, options.verify)
        for note in finished.notes:
            print(note, flush=True)
        return cls(record, finished, started)


def _check_same(output: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if before != now:
        raise ConfigurationError(
            f"{output} holds labels made with another configuration: {'; '.join(differences(before, now))}. Choose "
            "another --output, or start over with --overwrite"
        )


@dataclass(frozen=True)
class Run:
    """A run that has been let into its output.

    Attributes:
        options: what becomes of what is there.
        limits: what an image may cost to read.
        policy: what is opened of the images' addresses.
        store: the output.
        record: what run.json says; the last attempt is this one.
        finished: what earlier attempts left.
        started: on the monotonic clock.
    """

    options: StoreOptions
    limits: ImageLimits
    policy: AddressPolicy
    store: LabelStore
    record: RunRecord
    finished: Finished
    started: float

    @classmethod
    def open(
        cls,
        words: str,
        config: LabelDatasetConfig | RelabelConfig,
        store: LabelStore,
        earlier: Earlier,
        configuration: dict[str, Any],
        device: str,
    ) -> Run:
        """Record a new attempt of `everymask WORDS`.

        Raises:
            ConfigurationError: the output holds labels of another configuration.
            OutputError: the output cannot be written.
        """
        record = earlier.record
        if record is not None:
            _check_same(config.store.output, record.config, configuration)
        if config.store.overwrite:
            clear(store)
        elif record is not None and record.rebuilt is not None:
            _replace_run_file(store, record.rebuilt)
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        attempt = RunAttempt(typed(words, config), started_at, device, package_versions())
        attempts = [*(record.attempts if record else []), attempt]
        record = RunRecord(
            configuration, attempts, record.counts if record else None, settings=repeatable_settings(config)
        )
        write_run(store, record)
        return cls(
            config.store, config.limits, config.address_policy(), store, record, earlier.finished, earlier.started
        )

    def close(self, expected: int, added: PartSummary) -> PartSummary:
        """Count, record and show what there is now.

        Args:
            expected: images that must have a row.
            added: what this attempt has labelled.
        """
        counts = self._count(expected)
        attempt = replace(self.record.attempts[-1], seconds=self.seconds, labelled=added.images)
        write_run(self.store, replace(self.record, attempts=[*self.record.attempts[:-1], attempt], counts=counts))
        changed = added.images or self.finished.dropped or self.finished.notes
        if self.options.previews and (changed or not preview_exists(self.store)):
            with waiting("drawing the preview"):
                write_preview(self.store, self.limits, self.options.previews, self.policy)
        self._report(counts, added)
        return counts

    @property
    def seconds(self) -> float:
        """Since the start."""
        return round(time.monotonic() - self.started, 3)

    def _count(self, expected: int) -> PartSummary:
        """What the store holds now: every image once."""
        counts = self.store.summary()
        if counts.images > expected:
            settle_store(self.store)
            counts = self.store.summary()
        if counts.images != expected:
            raise RuntimeError(
                f"{self.store.uri} has {counts.images} rows, expected {expected}; run the same command again"
            )
        return counts

    def _report(self, counts: PartSummary, added: PartSummary) -> None:
        output = redact(self.options.output)
        speed = f" ({added.images / self.seconds:.3g} images/s)" if added.images else ""
        print(
            f"{counted(added.images, 'image')} labelled in {format_duration(self.seconds)}{speed}; {output} holds "
            f"{counted(counts.images, 'image')}, {counted(counts.masks, 'mask')}, {counted(counts.errors, 'error')}",
            flush=True,
        )
        held = {"images": counts.images, "masks": counts.masks, "errors": counts.errors}
        tell(output=output, labelled=added.images, seconds=self.seconds, **held)
        if self.options.previews:
            print(f"look at {output}/preview/index.html", flush=True)
        next_step(f"everymask browse {shlex.quote(output)}")
        if failures := failures_line(self.store, counts):
            print(failures, flush=True)


def repeatable_settings(config: LabelDatasetConfig | RelabelConfig) -> dict[str, Any]:
    """The settings that run.json keeps: all but what was asked for this once, and files as any directory finds them."""
    settings = {name: value for name, value in as_tree(config).items() if name not in _ONCE}
    for name in _PLACES & settings.keys():
        value = settings[name]
        settings[name] = (
            [canonical_uri(one) for one in value] if isinstance(value, list) else value and canonical_uri(value)
        )
    if settings.get("head"):
        settings["head"] = settled_head(settings["head"])
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


def _label_images(config: LabelDatasetConfig, store: LabelStore, sampling: EstimateConfig | None) -> PartSummary:
    skipped = Skipped()
    with waiting(f"looking for images in {redact(config.input)}"):
        first = next(_images(config, skipped), None)
    if first is None:
        passed_over = f" ({skipped})" if str(skipped) else ""
        raise ConfigurationError(f"the input {config.input} holds no image{passed_over}")
    connect()
    labels = parse_labels(config.node_labels)
    model = config.model.model
    actors = plan_actors(config.workers.actors, config.workers.gpus_per_actor, Footprint.of_model(model), labels)
    prices = parse_prices(sampling.price_per_gpu_hour, sampling.spot_price_per_gpu_hour) if sampling else None
    if prices is not None and not actors.gpus:
        raise ConfigurationError(
            "--price-per-gpu-hour was given, but no worker of this run has a GPU; leave it out, or give "
            "--gpus-per-actor"
        )
    check_schedulable(actors.demands())
    spec = ModelSpec(
        model,
        config.model.checkpoint,
        config.head,
        device_for(config.model.device, actors.gpus),
        config.label_config(),
        config.limits,
        actors.threads,
        config.save_embeddings and canonical_uri(config.save_embeddings),
    )
    configured = configuration_without_model(config.input, spec.config, model, config.limits)
    earlier = Earlier.read(config.store, store, configured)
    skipped = Skipped()
    with waiting(f"listing the images of {redact(config.input)}"):
        pending = write_pending(store, _images(config, skipped), earlier.finished.ids)
    _announce(model, spec.config.method, pending, actors, skipped)
    # Only now: a GPU machine that came for this would wait idle through a long listing, and be gone after it.
    with waiting(f"starting a worker, which loads {model}"):
        facts = inspect_model(spec, actors)
    configuration = run_configuration(config.input, spec.config, facts, config.limits)
    this = Run.open("label", config, store, earlier, configuration, facts.device)
    batch_size = config.batch_size or (find_model(model).gpu_batch_size if actors.gpus else 1)
    found = replace(spec, expected=facts)
    pending = _with_changed(this, pending)
    if sampling is None or not pending.images:
        return _label_all(this, pending, found, actors, batch_size)
    sample = draw_sample(store, pending, sampling.sample)
    added = label_pending(store, sample.pending, found, this.record.config, actors, batch_size, this.policy)
    seconds = this.seconds
    counts = this.close(this.finished.images + sample.pending.images, added)
    foretold = sample.estimate(store, added, seconds, actors, prices)
    save_estimate(store, foretold)
    print(foretold.report(), flush=True)
    return counts


def _images(config: LabelDatasetConfig, skipped: Skipped) -> Iterator[ImageRef]:
    return itertools.islice(list_images(config.input, config.store.output, skipped), config.limit)


def _label_all(this: Run, pending: Pending, spec: ModelSpec, actors: Actors, batch_size: int) -> PartSummary:
    added = PartSummary()
    if pending.images:
        added = label_pending(this.store, pending, spec, this.record.config, actors, batch_size, this.policy)
    seconds = this.seconds
    counts = this.close(this.finished.images + pending.images, added)
    if added.images and (foretold := load_estimate(this.store)):
        print(foretold.compare(added.images, added.seconds, seconds), flush=True)
    return counts


def _with_changed(this: Run, pending: Pending) -> Pending:
    """What is pending, and the images whose files are no longer those that were labelled."""
    if not pending.changed.images or this.options.keep_changed:
        return pending
    print(f"reading {pending.changed.images:,} files that may have changed since they were labelled", flush=True)
    changes = settle_changes(this.store, pending.changed, this.limits, this.policy)
    print(changes, flush=True)
    this.finished.replaced = len(changes.replaced)
    this.finished.dropped += len(changes.replaced)
    return replace(pending, manifest=pending.manifest.with_more(changes.replaced))


def _label_embeddings(config: RelabelConfig, store: LabelStore) -> PartSummary:
    """Label the images of stored mask embeddings with a head."""
    # Here, and in no other run, the driver looks into a head: half a GiB of model code that others do without.
    from data_jobs.labelling.relabel import relabel_pending, unfinished
    from everymask.classes.embeddings import open_embeddings
    from everymask.classes.head import check_backbone, load_head
    from everymask.classes.segmenter import masks_asked_for

    shards, masks = open_embeddings(config.embeddings)
    head = load_head(config.head)
    described = shards[0].read()[0].embeddings
    check_backbone(head.spec, described.backbone, described.weights_sha256)
    spec = head.spec
    facts = ModelFacts(
        spec.backbone, "cpu", spec.weights_sha256, head.file_sha256, spec.classes, head_score_thresh=spec.score_thresh
    )
    labels = config.label_config()
    labels = replace(labels, classes=replace(labels.classes, masks=masks_asked_for(spec, masks)))
    configuration = run_configuration(config.embeddings, labels, facts, config.limits)
    earlier = Earlier.read(config.store, store, configuration)
    this = Run.open("relabel", config, store, earlier, configuration, facts.device)
    connect()
    pending = unfinished(shards, this.finished.ids)
    images = sum(len(shard.rows) for shard in pending)
    done = len(this.finished.ids)
    print(f"{counted(images, 'image')} to label from {redact(config.embeddings)}, {done:,} labelled before", flush=True)
    added = PartSummary()
    if pending:
        head_place, workers = settled_head(config.head), os.cpu_count() or 1
        added = relabel_pending(store, pending, head_place, labels, configuration, workers)
    return this.close(done + images, added)


def _announce(model: str, method: str, pending: Pending, actors: Actors, skipped: Skipped) -> None:
    workers = f"{actors.minimum} to {actors.maximum}" if actors.maximum > actors.minimum else f"{actors.maximum}"
    place = f"{actors.gpus:g} GPU each" if actors.gpus else "on the CPU"
    print(
        f"{counted(pending.listed, 'image')}, {pending.listed - pending.images:,} labelled before, {pending.images:,} "
        f"to label with {model} ({method}), {workers} worker{'s' if actors.maximum > 1 else ''} {place}",
        flush=True,
    )
    if str(skipped):
        print(skipped, flush=True)


def _exit_code(options: StoreOptions, counts: PartSummary) -> int:
    if counts.errors <= tolerated_errors(options.max_errors, counts.images):
        return DONE
    print(
        f"{counts.errors:,} of {counts.images:,} images failed, more than --max-errors {options.max_errors}; the "
        "column `error` says why, --retry-failed tries them again",
        file=sys.stderr,
    )
    return TOO_MANY_ERRORS
