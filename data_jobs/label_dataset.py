"""Label every image of a folder, a glob, a list, a manifest or a bucket.

    python data_jobs/label_dataset.py --input photos --output labels
    ray job submit --working-dir . -- python data_jobs/label_dataset.py --input s3://in/photos --output s3://out/labels

The same command again resumes. Exit codes: 0 done; 2 usage, configuration or an output that cannot be written (whatever
was finished is kept); 3 done, but more images failed than --max-errors.
"""

from __future__ import annotations

import sys
from pathlib import Path

# As a script, the checkout this file belongs to comes before any installed everymask, on workers too.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import hashlib
import itertools
import os
import re
import shlex
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast

import tyro

from data_jobs.labelling.estimate import FEWEST_IMAGES, draw_sample
from data_jobs.labelling.estimate import load as load_estimate
from data_jobs.labelling.estimate import save as save_estimate
from data_jobs.labelling.inputs import ImageRef, canonical_uri, list_images
from data_jobs.labelling.model_spec import ModelFacts, ModelSpec
from data_jobs.labelling.output import OutputLock, clear, prepare
from data_jobs.labelling.pipeline import inspect_model, label_pending
from data_jobs.labelling.preview import preview_exists, write_preview
from data_jobs.labelling.resume import Finished, settle_store, write_pending
from data_jobs.runtime.actors import Actors, connect, plan_actors
from data_jobs.runtime.exit_codes import DONE, TOO_MANY_ERRORS, exit_code
from data_jobs.runtime.progress import format_duration
from data_jobs.runtime.scheduling import check_schedulable, parse_labels
from everymask.classes.config import ClassesConfig
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.errors import ConfigurationError
from everymask.images import ImageLimits
from everymask.label_config import LabelConfig
from everymask.labels.corrections import delete_corrections, has_corrections
from everymask.labels.identity import label_settings
from everymask.labels.provenance import RunAttempt, RunRecord, differences, package_versions, read_run, write_run
from everymask.labels.store import LabelStore, PartSummary
from everymask.models import ModelName, find_model, model_help
from everymask.redaction import redact


@dataclass(frozen=True)
class LabelDatasetConfig:
    """Label every image of a folder, a glob, a list, a manifest or a bucket. The same command again resumes."""

    output: str
    """Folder or address of the label store. On a cluster of several machines all must reach it."""
    input: str | None = None
    """A folder (with subfolders), a glob in quotes, a .txt list, a .parquet manifest with a column `uri`, or one image;
    local, s3://, gs:// or any other address pyarrow or fsspec opens."""
    method: Literal["entities", "classes", "amg"] = "entities"
    """entities: every entity once (E-SAM); classes: masks of your classes (U-SAM), needs --head; amg: SAM's automatic
    masks, which overlap."""
    model: Annotated[ModelName, tyro.conf.arg(help=model_help())] = "nano"
    checkpoint: str | None = None
    """File or URL of other weights of that model."""
    head: str | None = None
    """Class head for --method classes, from train_classes.py."""
    save_embeddings: str | None = None
    """Folder or address where method classes keeps its mask embeddings, for --from-embeddings."""
    from_embeddings: str | None = None
    """Label the images of such a folder with --head, without --input and without running the model."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    actors: str = "auto"
    """Model workers: N, MIN:MAX (scaled to the work waiting), or auto: one for each GPU, else as many as CPUs allow."""
    gpus_per_actor: float | None = None
    """Share of a GPU for each worker; by default 1 where the cluster has GPUs now, else 0. Set it where GPU machines
    start only when asked for."""
    node_labels: tuple[str, ...] = ()
    """Run the model workers only on machines with these Ray labels: KEY=VALUE, such as ray.io/market-type=on-demand."""
    batch_size: int | None = None
    """Images encoded together; by default what suits the model on a GPU, 1 on a CPU, where more gain nothing. Rounding
    depends on it."""
    retry_failed: bool = False
    """Label again the images whose row is an error; other rows stay as they are."""
    overwrite: bool = False
    """Delete the labels that are in the output, then start from nothing."""
    discard_corrections: bool = False
    """With --overwrite: delete what people corrected as well. Without it labels that people corrected stay."""
    limit: int | None = None
    """Only the first so many images of the input."""
    max_errors: str = "50%"
    """Exit with 3 if more images failed than this: a number, or a percentage of all."""
    estimate: int | None = None
    """Label only a sample of so many images, say what all of them will take, and stop. The sample's rows count: without
    this flag the same command goes on from there, and compares in the end."""
    previews: int = 24
    """Most images in preview/index.html; 0 writes none."""
    min_region_area: int = 0
    """Connected parts and holes of masks under this many pixels are removed; 0 leaves masks as they are."""
    max_region_area: int | None = None
    """Masks of more pixels than this are left out. By default none are."""
    tiles: int = 1
    """For method entities: tiles along a picture's longer side that are labelled beside the whole, at full detail, and
    joined across their seams. For large pictures with small things; the time grows with the number of tiles."""
    limits: ImageLimits = field(default_factory=ImageLimits)
    entities: EntityConfig = field(default_factory=EntityConfig)
    amg: AmgConfig = field(default_factory=AmgConfig)
    classes: ClassesConfig = field(default_factory=ClassesConfig)

    def __post_init__(self) -> None:
        if self.method == "classes" and self.head is None:
            raise ConfigurationError(
                "method classes needs a class head; make one with train_classes.py, then --head FILE"
            )
        if (self.input is None) == (self.from_embeddings is None):
            raise ConfigurationError("give what to label: --input, or --from-embeddings")
        if self.method != "classes" and (self.save_embeddings or self.from_embeddings):
            raise ConfigurationError(f"mask embeddings are for --method classes, not {self.method}; leave them out")
        if self.from_embeddings and (self.save_embeddings or self.estimate or self.limit):
            raise ConfigurationError(
                "--from-embeddings labels all it holds; leave out --save-embeddings, --estimate and --limit"
            )
        if self.method != "classes" and self.head is not None:
            raise ConfigurationError(f"--head is for --method classes; leave it out for {self.method}")
        if self.retry_failed and self.overwrite:
            raise ConfigurationError(
                "--overwrite starts from nothing, so there is no failed image to retry; choose one"
            )
        for name, least in (("batch_size", 1), ("limit", 1), ("previews", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigurationError(f"{name.replace('_', '-')} must be at least {least}; got {value}")
        if self.estimate is not None and self.estimate < FEWEST_IMAGES:
            raise ConfigurationError(f"an estimate needs a sample of at least {FEWEST_IMAGES}; got {self.estimate}")
        tolerated_errors(self.max_errors, 1)
        self.label_config()

    def label_config(self) -> LabelConfig:
        """What the library is asked to do."""
        return LabelConfig(
            self.method,
            self.entities,
            self.amg,
            self.classes,
            min_region_area=self.min_region_area,
            max_region_area=self.max_region_area,
            tiles=self.tiles,
        )

    def identity(self, facts: ModelFacts) -> dict[str, Any]:
        """Everything that changes a label: rows of one store have all of it in common."""
        settings = label_settings(
            self.label_config(), self.model, facts.weights_sha256, facts.head_sha256, facts.class_names
        )
        place = redact(canonical_uri(self.input or self.from_embeddings or ""))
        return {"input": place, **settings, "limits": asdict(self.limits)}


def tolerated_errors(max_errors: str, images: int) -> float:
    """How many of `images` may fail: `N`, or `P%` of them.

    Raises:
        ConfigurationError: neither form.
    """
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", max_errors)
    if match is None:
        raise ConfigurationError(f"max-errors must be a number or a percentage such as 5%; got {max_errors!r}")
    return float(match[1]) if match[1] else float(match[2]) / 100 * images


def run(config: LabelDatasetConfig, command: str) -> int:
    """Label whatever is not labelled yet; returns the exit code.

    Raises:
        EverymaskError: (or an error of Ray with one as its cause) usage, configuration, or an output that cannot be
            written.
    """
    store = LabelStore(canonical_uri(config.output))
    prepare(store)
    if config.overwrite and not config.discard_corrections and has_corrections(store):
        raise ConfigurationError(
            f"{config.output} holds corrections that people made; choose another --output, or name them for deletion: "
            "--overwrite --discard-corrections"
        )
    with OutputLock(store):
        if config.from_embeddings is not None:
            return _exit_code(config, _relabel(config, config.from_embeddings, store, command))
        first = next(_images(config), None)
        if first is None:
            raise ConfigurationError(f"the input {config.input} holds no image")
        connect()
        labels = parse_labels(config.node_labels)
        actors = plan_actors(config.actors, config.gpus_per_actor, config.model, labels)
        check_schedulable(actors.demands())
        spec = ModelSpec(
            config.model,
            config.checkpoint,
            config.head,
            config.device,
            config.label_config(),
            config.limits,
            actors.threads,
            config.save_embeddings and canonical_uri(config.save_embeddings),
        )
        facts = inspect_model(spec, actors)
        record = _open_run(config, store, facts, command)
        counts = _label(config, store, spec, actors, record)
    return _exit_code(config, counts)


def _images(config: LabelDatasetConfig) -> itertools.islice[ImageRef]:
    assert config.input is not None
    return itertools.islice(list_images(config.input, skip=config.output), config.limit)


def _open_run(config: LabelDatasetConfig, store: LabelStore, facts: ModelFacts, command: str) -> RunRecord:
    """The record of this run with a new attempt, written; an output with another configuration is refused."""
    identity = config.identity(facts)
    record = None if config.overwrite else read_run(store)
    if record is not None and record.config != identity:
        changes = "; ".join(differences(record.config, identity))
        raise ConfigurationError(
            f"{config.output} holds labels made with another configuration: {changes}. Choose another --output, or "
            "start over with --overwrite"
        )
    if config.overwrite:
        clear(store)
        delete_corrections(store)
    attempt = RunAttempt(
        command=command,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        device=facts.device,
        versions=package_versions(),
    )
    attempts = [*(record.attempts if record else []), attempt]
    record = RunRecord(identity, attempts, record.counts if record else None)
    write_run(store, record)
    return record


def _label(
    config: LabelDatasetConfig, store: LabelStore, spec: ModelSpec, actors: Actors, record: RunRecord
) -> PartSummary:
    started = time.monotonic()
    finished = settle_store(store, config.retry_failed)
    pending = write_pending(store, _images(config), finished.ids)
    _announce(config, finished, pending.images, pending.listed, actors)
    sample = draw_sample(store, pending, config.estimate) if config.estimate and pending.images else None
    if sample is not None:
        pending = sample.pending
    added = PartSummary()
    if pending.images:
        batch_size = config.batch_size or (find_model(config.model).gpu_batch_size if actors.gpus else 1)
        added = label_pending(store, pending, spec, record.config, actors, batch_size)
    seconds = round(time.monotonic() - started, 3)
    counts = _close_run(config, store, record, finished, len(finished.ids) + pending.images, added, seconds)
    if sample is not None:
        foretold = sample.estimate(store, added, seconds, actors)
        save_estimate(store, foretold)
        print(foretold.report(), flush=True)
    elif added.images and (estimate := load_estimate(store)):
        print(estimate.compare(added.images, added.seconds, seconds), flush=True)
    return counts


def _relabel(config: LabelDatasetConfig, source: str, store: LabelStore, command: str) -> PartSummary:
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
    digest = hashlib.sha256(Path(config.head).read_bytes()).hexdigest()
    facts = ModelFacts("cpu", head.spec.weights_sha256, digest, head.spec.classes)
    made_with = replace(config, model=cast(Any, head.spec.backbone), classes=replace(config.classes, masks=masks))
    record = _open_run(made_with, store, facts, command)
    connect()
    started = time.monotonic()
    finished = settle_store(store, config.retry_failed)
    pending = unfinished(shards, finished.ids)
    images = sum(len(shard.rows) for shard in pending)
    print(f"{images:,} images to label from {redact(source)}, {len(finished.ids):,} labelled before", flush=True)
    added = PartSummary()
    if pending:
        head_file, workers = canonical_uri(config.head), os.cpu_count() or 1
        added = relabel_pending(store, pending, head_file, config.label_config(), record.config, workers)
    seconds = round(time.monotonic() - started, 3)
    return _close_run(config, store, record, finished, len(finished.ids) + images, added, seconds)


def _close_run(
    config: LabelDatasetConfig,
    store: LabelStore,
    record: RunRecord,
    finished: Finished,
    expected: int,
    added: PartSummary,
    seconds: float,
) -> PartSummary:
    """Count, record and show what there is now."""
    counts = _count(store, expected)
    attempt = replace(record.attempts[-1], seconds=seconds, labelled=added.images)
    write_run(store, replace(record, attempts=[*record.attempts[:-1], attempt], counts=counts))
    if config.previews and (added.images or finished.dropped or not preview_exists(store)):
        write_preview(store, config.limits, config.previews)
    _report(config, counts, added, seconds)
    return counts


def _announce(config: LabelDatasetConfig, finished: Finished, pending: int, listed: int, actors: Actors) -> None:
    workers = f"{actors.minimum} to {actors.maximum}" if actors.maximum > actors.minimum else f"{actors.maximum}"
    place = f"{actors.gpus:g} GPU each" if actors.gpus else "on the CPU"
    print(
        f"{listed:,} images, {listed - pending:,} labelled before, {pending:,} to label with {config.model} "
        f"({config.method}), {workers} worker{'s' if actors.maximum > 1 else ''} {place}",
        flush=True,
    )
    if finished.damaged:
        print(f"{finished.damaged} unreadable parts were removed; their images are labelled again", flush=True)


def _count(store: LabelStore, expected: int) -> PartSummary:
    """What the store holds now: every image once."""
    counts = store.summary()
    if counts.images > expected:
        settle_store(store)
        counts = store.summary()
    if counts.images != expected:
        raise RuntimeError(f"{store.uri} has {counts.images} rows, expected {expected}; run the same command again")
    return counts


def _report(config: LabelDatasetConfig, counts: PartSummary, added: PartSummary, seconds: float) -> None:
    speed = f" ({added.images / seconds:.3g} images/s)" if added.images else ""
    print(
        f"{added.images:,} images labelled in {format_duration(seconds)}{speed}; {redact(config.output)} holds "
        f"{counts.images:,} images, {counts.masks:,} masks, {counts.errors:,} errors",
        flush=True,
    )
    if config.previews:
        print(f"look at {redact(config.output)}/preview/index.html", flush=True)


def _exit_code(config: LabelDatasetConfig, counts: PartSummary) -> int:
    if counts.errors <= tolerated_errors(config.max_errors, counts.images):
        return DONE
    print(
        f"{counts.errors:,} of {counts.images:,} images failed, more than --max-errors {config.max_errors}; the column "
        "`error` says why, --retry-failed tries them again",
        file=sys.stderr,
    )
    return TOO_MANY_ERRORS


def main(arguments: list[str] | None = None, program: str = "python data_jobs/label_dataset.py") -> int:
    """The command; returns its exit code."""
    command = f"{program} {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
    return exit_code(
        lambda: run(tyro.cli(LabelDatasetConfig, args=arguments, prog=program), command),
        "what is finished is kept, the same command resumes",
    )


if __name__ == "__main__":
    sys.exit(main())
