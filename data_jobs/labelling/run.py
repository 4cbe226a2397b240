"""One run of the labelling job: what it works on, and its steps from listing images to the final count."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from data_jobs.labelling.config import LabelDatasetConfig, tolerated_errors
from data_jobs.labelling.estimate import draw_sample
from data_jobs.labelling.estimate import load as load_estimate
from data_jobs.labelling.estimate import save as save_estimate
from data_jobs.labelling.identity import OF_THE_MODEL, configuration_without_model, run_configuration
from data_jobs.labelling.inputs import ImageRef, Skipped, list_images
from data_jobs.labelling.model_spec import ModelFacts, ModelSpec
from data_jobs.labelling.output import OutputLock, clear, prepare
from data_jobs.labelling.pipeline import inspect_model, label_pending
from data_jobs.labelling.preview import preview_exists, write_preview
from data_jobs.labelling.resume import Finished, Pending, settle_store, write_pending
from data_jobs.runtime.actors import Actors, connect, plan_actors
from data_jobs.runtime.exit_codes import DONE, TOO_MANY_ERRORS
from data_jobs.runtime.progress import format_duration
from data_jobs.runtime.scheduling import check_schedulable, parse_labels
from everymask.backbone.devices import device_for
from everymask.backbone.models import find_model
from everymask.errors import ConfigurationError, OutputError
from everymask.files.storage import canonical_uri, one_line
from everymask.labels.provenance import RunAttempt, RunRecord, differences, package_versions, read_run, write_run
from everymask.labels.store import LabelStore, PartSummary
from everymask.redaction import redact


def run(config: LabelDatasetConfig, command: str) -> int:
    """Label whatever is not labelled yet; returns the exit code.

    Raises:
        EverymaskError: (or an error of Ray with one as its cause) usage, configuration, or an output that cannot be
            written.
    """
    store = LabelStore(canonical_uri(config.output))
    prepare(store, config.overwrite, config.discard_corrections)
    with OutputLock(store):
        if config.from_embeddings is not None:
            counts = _label_embeddings(config, config.from_embeddings, store, command)
        else:
            counts = _label_images(config, store, command)
    return _exit_code(config, counts)


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
    def read(cls, config: LabelDatasetConfig, store: LabelStore, configuration: dict[str, Any]) -> Earlier:
        """Read it, and settle the store; what is to be overwritten stays as it is.

        Args:
            config: what was asked for.
            store: the output.
            configuration: the run's, as far as it is known: what only a look into the model tells may be missing.

        Raises:
            ConfigurationError: the output holds labels of another configuration.
            OutputError: the output cannot be written.
        """
        started = time.monotonic()
        if config.overwrite:
            return cls(None, Finished(), started)
        record = read_run(store)
        if record is not None:
            known = configuration.keys() | record.config.keys() - set(OF_THE_MODEL)
            _check_same(config.output, {name: record.config.get(name) for name in known}, configuration)
        finished = settle_store(store, config.retry_failed, config.verify)
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
        config: what was asked for.
        store: the output.
        record: what run.json says; the last attempt is this one.
        finished: what earlier attempts left.
        started: on the monotonic clock.
    """

    config: LabelDatasetConfig
    store: LabelStore
    record: RunRecord
    finished: Finished
    started: float

    @classmethod
    def open(
        cls,
        config: LabelDatasetConfig,
        store: LabelStore,
        earlier: Earlier,
        configuration: dict[str, Any],
        device: str,
        command: str,
    ) -> Run:
        """Record a new attempt.

        Raises:
            ConfigurationError: the output holds labels of another configuration.
            OutputError: the output cannot be written.
        """
        record = earlier.record
        if record is not None:
            _check_same(config.output, record.config, configuration)
        if config.overwrite:
            clear(store)
        elif record is not None and record.rebuilt is not None:
            _replace_run_file(store, record.rebuilt)
        attempt = RunAttempt(command, datetime.now(UTC).isoformat(timespec="seconds"), device, package_versions())
        attempts = [*(record.attempts if record else []), attempt]
        record = RunRecord(configuration, attempts, record.counts if record else None)
        write_run(store, record)
        return cls(config, store, record, earlier.finished, earlier.started)

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
        if self.config.previews and (changed or not preview_exists(self.store)):
            write_preview(self.store, self.config.limits, self.config.previews)
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
        output = redact(self.config.output)
        speed = f" ({added.images / self.seconds:.3g} images/s)" if added.images else ""
        print(
            f"{added.images:,} images labelled in {format_duration(self.seconds)}{speed}; {output} holds "
            f"{counts.images:,} images, {counts.masks:,} masks, {counts.errors:,} errors",
            flush=True,
        )
        if self.config.previews:
            print(f"look at {output}/preview/index.html", flush=True)


def _replace_run_file(store: LabelStore, why: str) -> None:
    try:
        aside = f"; what was there is now {store.set_aside(store.run_file, 'damaged')}" if store.exists() else ""
    except OSError as error:
        raise OutputError(f"cannot move {store.run_file} out of the way: {one_line(error)}") from error
    print(f"run.json is made anew from the labels beside it, since {why}{aside}", flush=True)


def _label_images(config: LabelDatasetConfig, store: LabelStore, command: str) -> PartSummary:
    skipped = Skipped()
    if next(_images(config, skipped), None) is None:
        passed_over = f" ({skipped})" if str(skipped) else ""
        raise ConfigurationError(f"the input {config.input} holds no image{passed_over}")
    connect()
    labels = parse_labels(config.node_labels)
    actors = plan_actors(config.actors, config.gpus_per_actor, config.model, labels)
    if config.price_per_gpu_hour is not None and not actors.gpus:
        raise ConfigurationError(
            "--price-per-gpu-hour was given, but no worker of this run has a GPU; leave it out, or give "
            "--gpus-per-actor"
        )
    check_schedulable(actors.demands())
    spec = ModelSpec(
        config.model,
        config.checkpoint,
        config.head,
        device_for(config.device, actors.gpus),
        config.label_config(),
        config.limits,
        actors.threads,
        config.save_embeddings and canonical_uri(config.save_embeddings),
    )
    assert config.input is not None
    configured = configuration_without_model(config.input, spec.config, config.model, config.limits)
    earlier = Earlier.read(config, store, configured)
    skipped = Skipped()
    pending = write_pending(store, _images(config, skipped), earlier.finished.ids)
    _announce(config, pending, actors, skipped)
    # Only now: a GPU machine that came for this would wait idle through a long listing, and be gone after it.
    facts = inspect_model(spec, actors)
    configuration = run_configuration(config.input, spec.config, facts, config.limits)
    this = Run.open(config, store, earlier, configuration, facts.device, command)
    return _label_pending(this, pending, replace(spec, expected=facts), actors)


def _images(config: LabelDatasetConfig, skipped: Skipped) -> Iterator[ImageRef]:
    assert config.input is not None
    return itertools.islice(list_images(config.input, config.output, skipped), config.limit)


def _label_pending(this: Run, pending: Pending, spec: ModelSpec, actors: Actors) -> PartSummary:
    config, store = this.config, this.store
    sample = draw_sample(store, pending, config.estimate) if config.estimate and pending.images else None
    if sample is not None:
        pending = sample.pending
    added = PartSummary()
    if pending.images:
        batch_size = config.batch_size or (find_model(config.model).gpu_batch_size if actors.gpus else 1)
        added = label_pending(store, pending, spec, this.record.config, actors, batch_size)
    seconds = this.seconds
    counts = this.close(len(this.finished.ids) + pending.images, added)
    if sample is not None:
        foretold = sample.estimate(store, added, seconds, actors, config.prices())
        save_estimate(store, foretold)
        print(foretold.report(), flush=True)
    elif added.images and (estimate := load_estimate(store)):
        print(estimate.compare(added.images, added.seconds, seconds), flush=True)
    return counts


def _label_embeddings(config: LabelDatasetConfig, source: str, store: LabelStore, command: str) -> PartSummary:
    """Label the images of stored mask embeddings with a head."""
    # Here, and in no other run, the driver looks into a head: half a GiB of model code that others do without.
    from data_jobs.labelling.relabel import relabel_pending, unfinished
    from everymask.classes.embeddings import open_embeddings
    from everymask.classes.head import check_backbone, load_head

    assert config.head is not None
    shards, masks = open_embeddings(source)
    head = load_head(config.head)
    described = shards[0].read()[0].embeddings
    check_backbone(head.spec, described.backbone, described.weights_sha256)
    facts = ModelFacts(head.spec.backbone, "cpu", head.spec.weights_sha256, head.file_sha256, head.spec.classes)
    labels = replace(config.label_config(), classes=replace(config.classes, masks=masks))
    configuration = run_configuration(source, labels, facts, config.limits)
    earlier = Earlier.read(config, store, configuration)
    this = Run.open(config, store, earlier, configuration, facts.device, command)
    connect()
    pending = unfinished(shards, this.finished.ids)
    images = sum(len(shard.rows) for shard in pending)
    done = len(this.finished.ids)
    print(f"{images:,} images to label from {redact(source)}, {done:,} labelled before", flush=True)
    added = PartSummary()
    if pending:
        head_file, workers = canonical_uri(config.head), os.cpu_count() or 1
        added = relabel_pending(store, pending, head_file, labels, configuration, workers)
    return this.close(done + images, added)


def _announce(config: LabelDatasetConfig, pending: Pending, actors: Actors, skipped: Skipped) -> None:
    workers = f"{actors.minimum} to {actors.maximum}" if actors.maximum > actors.minimum else f"{actors.maximum}"
    place = f"{actors.gpus:g} GPU each" if actors.gpus else "on the CPU"
    print(
        f"{pending.listed:,} images, {pending.listed - pending.images:,} labelled before, {pending.images:,} to label "
        f"with {config.model} ({config.method}), {workers} worker{'s' if actors.maximum > 1 else ''} {place}",
        flush=True,
    )
    if str(skipped):
        print(skipped, flush=True)


def _exit_code(config: LabelDatasetConfig, counts: PartSummary) -> int:
    if counts.errors <= tolerated_errors(config.max_errors, counts.images):
        return DONE
    print(
        f"{counts.errors:,} of {counts.images:,} images failed, more than --max-errors {config.max_errors}; the column "
        "`error` says why, --retry-failed tries them again",
        file=sys.stderr,
    )
    return TOO_MANY_ERRORS
