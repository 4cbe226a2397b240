"""Say what a label store holds, what its runs spent, and how wrong its labels can be.

    everymask report labels                 # counts, errors by kind, seconds by stage, what a judged sample tells
    everymask report labels --sample 200    # draw 200 images for a person to judge

Exit codes: 0 done; 2 usage, no label store, or a sample that is there already.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace

from data_jobs.runtime.command import Command
from data_jobs.runtime.exit_codes import DONE
from data_jobs.runtime.outcome import next_step, tell
from data_jobs.runtime.waiting import waiting
from everymask.errors import ConfigurationError, InputError
from everymask.files.location import Location
from everymask.labels.corrections import read_corrections
from everymask.labels.overview import COLUMNS, overview
from everymask.labels.provenance import RunAttempt, read_run
from everymask.labels.run_summary import RunSummary
from everymask.labels.store import LabelStore
from everymask.redaction import redact
from everymask.review.error_bound import bound_line, largest_error
from everymask.review.queue import make_queue, read_queue, write_queue
from everymask.review.report import effort
from everymask.wording import counted


@dataclass(frozen=True)
class StoreReportConfig:
    """Say what a label store holds, what its runs spent, and how wrong its labels can be."""

    labels: str
    """Folder or address of the label store."""
    sample: int | None = None
    """Draw so many images, of those that nobody has corrected yet, for a person to judge."""
    queue: str = "sample.json"
    """Where the sample is kept, as a review queue."""
    seed: int = 0
    """Seed of the draw."""


def run(config: StoreReportConfig) -> int:
    """Print the report, or draw a sample; returns the exit code. Raises EverymaskError."""
    store = LabelStore(config.labels)
    sample = read_queue(config.queue) if Location.at(config.queue).kind() == "file" else None
    if config.sample is not None:
        if config.sample < 1:
            raise ConfigurationError(f"--sample {config.sample} draws nothing; give at least 1")
        if sample is not None:
            of = "" if sample.is_of(store) else f", of {sample.labels}"
            raise ConfigurationError(f"{config.queue} is there already{of}; name another --queue")
        return _draw(config, store, config.sample)
    counts = store.summary()
    if not counts.images and not store.exists():
        raise InputError(f"{redact(store.uri)} is not a label store: it has neither run.json nor labels/*.parquet")
    labels = shlex.quote(config.labels)
    print(
        f"{redact(store.uri)} holds {counted(counts.images, 'image')}, {counted(counts.masks, 'mask')}, "
        f"{counted(counts.errors, 'error')}"
    )
    tell(images=counts.images, masks=counts.masks, errors=counts.errors)
    _tell_spent(store)
    if sample is None or not sample.is_of(store):
        if sample is not None:
            print(f"{config.queue} is a sample of {sample.labels}, not of this store; --queue names another")
        next_step(f"everymask report {labels} --sample 200")
        return DONE
    found = effort(sample.image_ids, read_corrections(store))
    print(bound_line(found.changed, found.reviewed))
    if found.reviewed < found.images:
        print(f"still to be judged, of the sample {config.queue}: {counted(found.images - found.reviewed, 'image')}")
        next_step(f"everymask browse {labels} --queue {shlex.quote(config.queue)}")
    else:
        next_step(f"everymask train classes --corrections {labels} --output corrected.safetensors")
    bound = largest_error(found.changed, found.reviewed) if found.reviewed else None
    tell(sampled=found.images, judged=found.reviewed, wrong=found.changed, error_below=bound)
    return DONE


def _tell_spent(store: LabelStore) -> None:
    """Errors by kind and the slowest images, from the rows; what the attempts spent, from their records."""
    with waiting(f"reading the rows of {redact(store.uri)}"):
        stands_out = overview(store.batches([*COLUMNS], batch_size=8192))
        attempts = [attempt for one in store.stores() for attempt in _attempts(one)]
    trees = [attempt.summary for attempt in attempts if attempt.summary]
    spent = sum((RunSummary.from_tree(tree) for tree in trees), RunSummary())
    costs = [tree["cost"] for tree in trees if "cost" in tree]
    cost = sum(costs) if costs else None
    for line in replace(spent, overview=stands_out).lines(cost):
        print(f"  {line}")
    unknown = sum(attempt.summary is None and attempt.labelled != 0 for attempt in attempts)
    if trees and unknown:
        print(f"  what {counted(unknown, 'other attempt')} spent is not known: they did not come to their end")
    tell(summary=replace(spent, overview=stands_out).as_tree() | ({} if cost is None else {"cost": cost}))


def _attempts(store: LabelStore) -> list[RunAttempt]:
    record = read_run(store)
    return [] if record is None else record.attempts


def _draw(config: StoreReportConfig, store: LabelStore, images: int) -> int:
    with waiting(f"reading the labels of {redact(store.uri)}"):
        sample = make_queue(store, images, control=1.0, seed=config.seed)
    write_queue(sample, config.queue)
    tell(queue=config.queue, sampled=len(sample.images), candidates=sample.candidates)
    print(f"{config.queue}: {len(sample.images):,} of {counted(sample.candidates, 'image')}, drawn at random")
    labels, queue = shlex.quote(config.labels), shlex.quote(config.queue)
    print(f"once they are judged, `everymask report {labels} --queue {queue}` says what the error is")
    next_step(f"everymask browse {labels} --queue {queue}")
    return DONE


command = Command(
    "report",
    StoreReportConfig,
    run,
    "Say what a label store holds, what its runs spent, and how wrong its labels can be.",
    first="labels",
)

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
