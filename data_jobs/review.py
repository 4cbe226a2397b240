"""What a person should look at first, and the corrections they give back.

    everymask review queue --labels labels --most 200 --output queue.json
    everymask export --labels labels --queue queue.json --format label-studio --output tasks.json
    everymask review import --labels labels --from export.json
    everymask review report --labels labels --queue queue.json

Corrections are kept in LABELS/corrections; exports and evaluations read corrected labels from then on. Exit codes:
0 done; 2 usage, or something that cannot be read or written, nothing is imported then; 3 imported, but for images that
could not be read or are not in the store.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from data_jobs.runtime.command import Command, one_of
from data_jobs.runtime.exit_codes import DONE, TOO_MANY_ERRORS
from data_jobs.runtime.options import AddressOptions
from data_jobs.runtime.outcome import next_step, tell
from data_jobs.runtime.settings import JOINED
from data_jobs.runtime.waiting import waiting
from everymask.errors import ConfigurationError
from everymask.files.location import Location
from everymask.images.decoding import ImageLimits
from everymask.labels.address_policy import address_policy
from everymask.labels.corrections import read_corrections
from everymask.labels.store import LabelStore
from everymask.redaction import redact
from everymask.review.importing import import_corrections
from everymask.review.page import queue_page
from everymask.review.queue import make_queue, read_queue, write_queue
from everymask.review.report import queue_report, report_lines
from everymask.review.reviewed import EditingFormat
from everymask.review.tool_files import guess_format
from everymask.wording import counted

_REFUSED_SHOWN = 20


@dataclass(frozen=True)
class QueueConfig:
    """Choose the images a person should see first, and draw some at random as a control."""

    labels: str
    """Folder or address of the label store."""
    output: str = "queue.json"
    """The queue, for `--queue` of an export; a page with pictures goes beside it (.html)."""
    most: int = 200
    """Images in the queue."""
    control: float = 0.2
    """Share of them drawn at random, against which `report` judges the queue."""
    seed: int = 0
    """Seed of that draw."""
    pictures: bool = True
    """Write the page."""
    addresses: Annotated[AddressOptions, JOINED] = field(default_factory=AddressOptions)

    def __post_init__(self) -> None:
        if self.output.lower().endswith((".html", ".htm")):
            name = f"{self.output.rpartition('.')[0]}.json"
            raise ConfigurationError(f"--output names the queue, which is JSON; its page is put beside it: give {name}")

    @property
    def page(self) -> str:
        """The page's path: the queue's with another ending."""
        folder, slash, name = self.output.rpartition("/")
        return f"{folder}{slash}{name.rpartition('.')[0] or name}.html"


@dataclass(frozen=True)
class ImportConfig:
    """Read what an annotation tool gave back, and keep it as corrections."""

    labels: str
    """Folder or address of the label store."""
    from_file: Annotated[Path, tyro.conf.arg(name="from")]
    """The file, or folder of files, that the tool wrote."""
    format: EditingFormat | None = None
    """Its format; by default guessed from the file."""


@dataclass(frozen=True)
class ReportConfig:
    """Say how much was changed in a queue, against the images drawn at random."""

    labels: str
    """Folder or address of the label store."""
    queue: str = "queue.json"
    """The queue that was reviewed."""


def make(config: QueueConfig) -> int:
    """Write a queue and its page; returns the exit code. Raises EverymaskError."""
    store = LabelStore(config.labels)
    with waiting(f"reading the labels of {redact(store.uri)}"):
        chosen = make_queue(store, config.most, config.control, config.seed)
    write_queue(chosen, config.output)
    tell(queue=config.output, images=len(chosen.images), candidates=chosen.candidates)
    print(f"{config.output}: {len(chosen.images):,} of {counted(chosen.candidates, 'image')}")
    if config.pictures:
        policy = address_policy(store, config.addresses.local_root, config.addresses.allow_private_networks)
        with waiting("drawing the queue's page"):
            page = queue_page(store, chosen, ImageLimits(), policy, config.output)
        Location.at(config.page).write(page.encode())
        print(f"look at {config.page}")
    next_step(f"everymask browse {shlex.quote(config.labels)} --queue {shlex.quote(config.output)}")
    return DONE


def bring_back(config: ImportConfig) -> int:
    """Import corrections; returns the exit code. Raises EverymaskError."""
    tool = config.format or guess_format(config.from_file)
    with waiting(f"reading {config.from_file}, and matching its masks with the store's"):
        summary = import_corrections(LabelStore(config.labels), config.from_file, tool)
    if summary.images or not summary.again:
        counts = ", ".join(f"{count:,} {action}" for action, count in summary.masks.items())
        images = counted(summary.images, "image")
        print(f"{images} finished by a person ({tool}), {summary.changed:,} changed; masks: {counts}")
    if summary.again:
        print(f"already imported: {counted(summary.again, 'image')} came back unchanged")
    if summary.drawn:
        print(f"masks drawn as boxes or ellipses, not as outlines: {_counts(summary.drawn)}")
    if summary.ignored:
        print(f"ignored, since they are no masks: {_counts(summary.ignored)}")
    if summary.path:
        print(f"kept in {summary.path}")
    for sentence in summary.refused[:_REFUSED_SHOWN]:
        print(f"left out: {sentence}", file=sys.stderr)
    if len(summary.refused) > _REFUSED_SHOWN:
        print(f"left out: {counted(len(summary.refused) - _REFUSED_SHOWN, 'more image')}", file=sys.stderr)
    tell(
        images=summary.images,
        changed=summary.changed,
        masks=summary.masks,
        again=summary.again,
        refused=summary.refused,
    )
    if summary.images:
        next_step(f"everymask train classes --corrections {shlex.quote(config.labels)} --output corrected.safetensors")
    return TOO_MANY_ERRORS if summary.refused else DONE


def _counts(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))


def judge(config: ReportConfig) -> int:
    """Print what was changed; returns the exit code. Raises EverymaskError."""
    efforts = queue_report(read_queue(config.queue), read_corrections(LabelStore(config.labels)))
    tell(**{chosen: asdict(effort) for chosen, effort in efforts.items()})
    for line in report_lines(efforts):
        print(line)
    next_step(f"everymask train classes --corrections {shlex.quote(config.labels)} --output corrected.safetensors")
    return DONE


queue = Command(
    "review queue",
    QueueConfig,
    make,
    "Choose the images a person should see first, and draw some at random as a control.",
)
import_ = Command(
    "review import",
    ImportConfig,
    bring_back,
    "Read what an annotation tool gave back, and keep it as corrections.",
    interrupted="nothing was imported",
)
report = Command(
    "review report",
    ReportConfig,
    judge,
    "Say how much was changed in a queue, against the images drawn at random.",
)

if __name__ == "__main__":
    sys.exit(one_of((queue, import_, report))(sys.argv[1:]))
