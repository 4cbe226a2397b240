"""Say what a label store holds, and how wrong its labels can be.

    everymask report labels                 # counts, and what a judged sample tells
    everymask report labels --sample 200    # draw 200 images for a person to judge

Exit codes: 0 done; 2 usage, no label store, or a sample that is there already.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass

from data_jobs.runtime.command import Command
from data_jobs.runtime.exit_codes import DONE
from data_jobs.runtime.outcome import next_step, tell
from data_jobs.runtime.waiting import waiting
from everymask.errors import ConfigurationError, InputError
from everymask.files.location import Location
from everymask.labels.corrections import read_corrections
from everymask.labels.store import LabelStore
from everymask.redaction import redact
from everymask.review.error_bound import bound_line, largest_error
from everymask.review.queue import make_queue, read_queue, write_queue
from everymask.review.report import effort
from everymask.wording import counted


@dataclass(frozen=True)
class StoreReportConfig:
    """Say what a label store holds, and how wrong its labels can be."""

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
    drawn = Location.at(config.queue).kind() == "file"
    if config.sample is not None:
        if config.sample < 1:
            raise ConfigurationError(f"--sample {config.sample} draws nothing; give at least 1")
        if drawn:
            raise ConfigurationError(f"{config.queue} is there already; name another --queue, or leave out --sample")
        return _draw(config, store, config.sample)
    counts = store.summary()
    if not counts.images and not store.exists():
        raise InputError(f"{redact(store.uri)} is not a label store: it has neither run.json nor labels/*.parquet")
    print(
        f"{redact(store.uri)} holds {counted(counts.images, 'image')}, {counted(counts.masks, 'mask')}, "
        f"{counted(counts.errors, 'error')}"
    )
    tell(images=counts.images, masks=counts.masks, errors=counts.errors)
    if not drawn:
        next_step(f"everymask report {shlex.quote(config.labels)} --sample 200")
        return DONE
    found = effort(read_queue(config.queue).image_ids, read_corrections(store))
    print(bound_line(found.changed, found.reviewed))
    if found.reviewed < found.images:
        print(f"{counted(found.images - found.reviewed, 'image')} of the sample {config.queue} are still to be judged")
    bound = largest_error(found.changed, found.reviewed) if found.reviewed else None
    tell(sampled=found.images, judged=found.reviewed, wrong=found.changed, error_below=bound)
    return DONE


def _draw(config: StoreReportConfig, store: LabelStore, images: int) -> int:
    with waiting(f"reading the labels of {redact(store.uri)}"):
        sample = make_queue(store, images, control=1.0, seed=config.seed)
    write_queue(sample, config.queue)
    tell(queue=config.queue, sampled=len(sample.images), candidates=sample.candidates)
    print(f"{config.queue}: {len(sample.images):,} of {counted(sample.candidates, 'image')}, drawn at random")
    labels, queue = shlex.quote(config.labels), shlex.quote(config.queue)
    print(f"once they are judged and imported, `everymask report {labels} --queue {queue}` says what the error is")
    next_step(f"everymask export --labels {labels} --queue {queue} --format label-studio --output tasks.json")
    return DONE


command = Command(
    "report",
    StoreReportConfig,
    run,
    "Say what a label store holds, and how wrong its labels can be.",
    first="labels",
)

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
