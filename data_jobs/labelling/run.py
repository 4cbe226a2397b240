"""One run of the labelling job: its steps from listing images to the final count."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from data_jobs.labelling.attempts import Earlier, Run
from data_jobs.labelling.changes import settle_changes
from data_jobs.labelling.config import EstimateConfig, LabelDatasetConfig, RelabelConfig, StoreOptions
from data_jobs.labelling.digests import read_on_workers
from data_jobs.labelling.estimate import draw_sample
from data_jobs.labelling.estimate import save as save_estimate
from data_jobs.labelling.guard import LimitPassed
from data_jobs.labelling.inputs import ImageRef, list_images
from data_jobs.labelling.limits import tolerated
from data_jobs.labelling.listing import Listing
from data_jobs.labelling.manifests import Manifest
from data_jobs.labelling.model_files import ModelFiles
from data_jobs.labelling.model_spec import ModelFacts
from data_jobs.labelling.output import OutputLock, prepare
from data_jobs.labelling.prices import Prices, parse_prices
from data_jobs.labelling.resume import Pending
from data_jobs.labelling.run_configuration import configuration_without_model, run_configuration
from data_jobs.labelling.sharded import Input, begin_shards, resume_shards
from data_jobs.labelling.sharding import FIRST_SHARD_IMAGES
from data_jobs.labelling.skipped import Skipped
from data_jobs.labelling.start import Crew, Started
from data_jobs.labelling.update import finish_begun, place_of_labels
from data_jobs.runtime.actors import Actors, connect
from data_jobs.runtime.exit_codes import DONE, TOO_MANY_ERRORS
from data_jobs.runtime.outcome import next_step, tell
from data_jobs.runtime.scheduling import parse_labels
from data_jobs.runtime.waiting import waiting
from everymask.classes.shipped import settled_head
from everymask.errors import ConfigurationError
from everymask.files.location import Location
from everymask.files.storage import canonical_uri
from everymask.labels.store import LabelStore, PartSummary
from everymask.redaction import redact
from everymask.wording import counted


def label(config: LabelDatasetConfig) -> int:
    """Label whatever is not labelled yet; returns the exit code.

    Raises:
        EverymaskError: (or an error of Ray with one as its cause) usage, configuration, or an output that cannot be
            written.
    """
    return _run(config.store, config.place(), lambda store: _label_images(config, store, None))


def estimate(config: EstimateConfig) -> int:
    """Label a sample of the unlabelled images and print an estimate; returns the exit code. Raises as `label`."""
    return _run(config.label.store, config.label.place(), lambda store: _label_images(config.label, store, config))


def relabel(config: RelabelConfig) -> int:
    """Label the images of mask embeddings without a row; returns the exit code. Raises as `label`."""
    return _run(config.store, config.store.output, lambda store: _label_embeddings(config, store))


def _run(options: StoreOptions, place: str, work: Callable[[LabelStore], PartSummary]) -> int:
    store = LabelStore(canonical_uri(place))
    finish_begun(store)
    prepare(store, options.overwrite)
    with OutputLock(store):
        try:
            return _exit_code(options, work(store))
        except LimitPassed as error:
            return _too_many(str(error))


def _label_images(config: LabelDatasetConfig, store: LabelStore, sampling: EstimateConfig | None) -> PartSummary:
    skipped = Skipped()
    images = _listed(config, skipped)
    with waiting(f"looking for images in {redact(config.input)}"):
        first = next(images, None)
    if first is None:
        passed_over = f" ({skipped})" if str(skipped) else ""
        raise ConfigurationError(f"the input {config.input} holds no image{passed_over}")
    images = _of_share(config, itertools.chain([first], images))
    connect()
    crew = Crew.plan(config)
    prices = _prices(sampling, crew.actors)
    spec = crew.spec
    configured = configuration_without_model(
        config.input, spec.config, spec.model, config.limits, config.sources, config.head, spec.precision
    )
    updates: LabelStore | None = None
    if config.store.update:
        output = store
        crew = crew.inspected()
        store = place_of_labels(output, lambda: crew.configuration(config))
        updates = None if store is output else output
    earlier = Earlier.read(config.store, store, configured, ModelFiles.of(config), updates)
    _tell_without_embeddings(config, store, earlier)
    start = partial(crew.start, config, store, earlier)

    def list_again() -> Iterator[ImageRef]:
        return _of_share(config, _listed(config, Skipped()))

    if earlier.has_shards:
        if sampling is not None:
            raise ConfigurationError(
                f"{redact(store.uri)} holds a large run that has begun; estimate into another --output"
            )
        return resume_shards(Input(config, store, images, list_again), earlier, start)
    listing = Listing(store, images, earlier.finished.ids)
    new = listing.new()
    with waiting(lambda: f"listing the images of {redact(config.input)}, {listing.listed:,} so far"):
        first_shard = min(config.shard_images, FIRST_SHARD_IMAGES)
        some = itertools.islice(new, None if sampling else first_shard)
        manifest = Manifest.at(store.pending).with_more(some)
        following = next(new, None)
    if following is not None:
        print(
            f"more than {counted(manifest.images, 'image')} to label with {crew}; the rest is listed meanwhile, and "
            f"labelled in shards of {config.shard_images:,}",
            flush=True,
        )
        counts = begin_shards(
            Input(config, store, itertools.chain([following], new), list_again), listing, manifest, start
        )
        _tell_skipped(skipped)
        return counts
    pending = Pending(manifest, listing.listed, listing.changed)
    print(
        f"{counted(pending.listed, 'image')}, {pending.listed - pending.images:,} labelled before, {pending.images:,} "
        f"to label with {crew}",
        flush=True,
    )
    _tell_skipped(skipped)
    if crew.actors.gpus and earlier.record and not pending.images and not pending.changed.images:
        return Run.without_workers(config, store, earlier.record, earlier).close(earlier.finished.images, PartSummary())
    started = start()
    pending = _with_changed(started.run, pending)
    if sampling is None or not pending.images:
        return _label_all(started, pending)
    return _label_sample(started, pending, sampling, prices)


def _listed(config: LabelDatasetConfig, skipped: Skipped) -> Iterator[ImageRef]:
    return itertools.islice(list_images(config.input, config.store.output, skipped, config.sources), config.limit)


def _of_share(config: LabelDatasetConfig, images: Iterator[ImageRef]) -> Iterator[ImageRef]:
    share = config.share()
    return share.of(images) if share else images


def _prices(sampling: EstimateConfig | None, actors: Actors) -> Prices | None:
    prices = parse_prices(sampling.price_per_gpu_hour, sampling.spot_price_per_gpu_hour) if sampling else None
    if prices is not None and not actors.gpus:
        raise ConfigurationError(
            "--price-per-gpu-hour was given, but no worker of this run has a GPU; leave it out, or give "
            "--gpus-per-actor"
        )
    return prices


def _tell_skipped(skipped: Skipped) -> None:
    if str(skipped):
        print(skipped, flush=True)


def _tell_without_embeddings(config: LabelDatasetConfig, store: LabelStore, earlier: Earlier) -> None:
    """Say so if images were labelled before their mask embeddings were asked for."""
    if config.save_embeddings is None or earlier.record is None:
        return
    place = canonical_uri(config.save_embeddings)
    asked_before = (earlier.record.settings or {}).get("save_embeddings") == place
    if asked_before and Location.at(place).entries():
        return
    if images := store.summary().images:
        print(
            f"{redact(place)} gets no mask embeddings of the {counted(images, 'image')} that {redact(store.uri)} holds "
            "already, only of those that this run labels; to have them of all, label into another --output",
            flush=True,
        )


def _label_sample(started: Started, pending: Pending, sampling: EstimateConfig, prices: Prices | None) -> PartSummary:
    this = started.run
    sample = draw_sample(this.store, pending, sampling.sample)
    added = started.label(sample.pending.manifest)
    seconds = this.seconds
    counts = started.close(this.finished.images + sample.pending.images, added)
    foretold = sample.estimate(this.store, added, seconds, started.crew.actors, prices)
    save_estimate(this.store, foretold)
    print(foretold.report(), flush=True)
    next_step(this.record.attempts[-1].command)
    return counts


def _label_all(started: Started, pending: Pending) -> PartSummary:
    started.guard.expect(lambda: pending.images)
    added = started.label(pending.manifest)
    return started.close_as_foretold(started.run.finished.images + pending.images, added)


def _with_changed(this: Run, pending: Pending) -> Pending:
    """The pending images, with those whose files have changed since they were labelled."""
    if not pending.changed.images or this.options.keep_changed:
        return pending
    print(f"reading {counted(pending.changed.images, 'file')} that may have changed since labelling", flush=True)
    changes = settle_changes(this.store, pending.changed, this.limits, this.policy, read_on_workers)
    print(changes, flush=True)
    this.finished.replaced = changes.dropped
    this.finished.dropped += changes.dropped
    return replace(pending, manifest=pending.manifest.with_more(changes.replaced))


def _label_embeddings(config: RelabelConfig, store: LabelStore) -> PartSummary:
    """Label the images of stored mask embeddings with a head."""
    # Here, and in no other run, the driver looks into a head: half a GiB of model code that others do without.
    from data_jobs.labelling.relabel import plan_relabellers, relabel_pending, unfinished
    from everymask.classes.embeddings import open_embeddings
    from everymask.classes.head import check_backbone, load_head
    from everymask.classes.segmenter import masks_asked_for

    shards, masks = open_embeddings(canonical_uri(config.embeddings))
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
    updates: LabelStore | None = None
    if config.store.update:
        output = store
        store = place_of_labels(output, lambda: configuration)
        updates = None if store is output else output
    earlier = Earlier.read(config.store, store, configuration, ModelFiles.of(config), updates)
    connect()
    actors = plan_relabellers(config.actors, parse_labels(config.node_labels))
    this = Run.open("relabel", config, store, earlier, configuration, facts.device)
    pending = unfinished(shards, this.finished.ids)
    images = sum(len(shard.rows) for shard in pending)
    done = len(this.finished.ids)
    print(f"{counted(images, 'image')} to label from {redact(config.embeddings)}, {done:,} labelled before", flush=True)
    added = PartSummary()
    if pending:
        added = relabel_pending(store, pending, settled_head(config.head), labels, configuration, actors)
    return this.close(done + images, added)


def _exit_code(options: StoreOptions, counts: PartSummary) -> int:
    if counts.errors <= tolerated(options.max_errors, counts.images, "max-errors"):
        return DONE
    return _too_many(
        f"{counts.errors:,} of {counted(counts.images, 'image')} failed, more than --max-errors {options.max_errors}; "
        "the column `error` says why, --retry-failed tries them again"
    )


def _too_many(reason: str) -> int:
    tell(error=reason)
    print(reason, file=sys.stderr)
    return TOO_MANY_ERRORS
