"""Turn a label store into a format that other tools read.

    everymask export --labels labels --format coco --output instances.json
    everymask export --labels labels --format yolo --output yolo --split 0.8/0.1/0.1

    ray job submit --working-dir . -- python data_jobs/export_labels.py --labels s3://b/labels --output s3://b/coco.json

An export is written by all cores, or by all machines of a Ray cluster, whole or not at all, and ends with what it lost
and what to type next; one that was killed goes on where it was when the same command is given again. Exit codes:
0 done; 2 usage, no label store, names that collide, a loss above --max-loss, or an output that cannot be written.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from data_jobs.runtime.command import Command
from data_jobs.runtime.exit_codes import DONE
from data_jobs.runtime.options import AddressOptions
from data_jobs.runtime.outcome import tell
from data_jobs.runtime.progress import ProgressLine
from data_jobs.runtime.settings import JOINED
from everymask.cores import usable_cores
from everymask.errors import ConfigurationError
from everymask.formats.export import ExportReport, ExportRequest, export
from everymask.formats.format import ImagesMode
from everymask.formats.processes import WriteShares, write_here, write_in_processes
from everymask.formats.registry import FORMATS, find_format, help_text
from everymask.formats.splits import SplitOptions
from everymask.labels.address_policy import address_policy
from everymask.labels.provenance import read_run
from everymask.labels.store import LabelStore
from everymask.review.queue import read_queue


@dataclass(frozen=True)
class ExportConfig:
    """Turn a label store into a format that other tools read."""

    labels: str
    """Folder or address of the label store."""
    output: str
    """The file or folder to write, local or remote."""
    format: Annotated[Literal[tuple(FORMATS)], tyro.conf.arg(help=help_text())] = "coco"  # type: ignore[valid-type]
    segmentation: str | None = None
    """How masks are written, if the format has a choice; see --format. By default the first."""
    task: str | None = None
    """For yolo: segment or detect."""
    split: str | None = None
    """Shares of train, val and test, as 0.8/0.1/0.1; a digest decides each image's split, and near-duplicates and
    frames of one video stay together."""
    split_by: str | None = None
    """What stays together instead: folder, or a column of the label store."""
    split_file: str | None = None
    """CSV file with the columns image_id and split, such as the splits.csv of an earlier export; with --split it may be
    incomplete."""
    images: ImagesMode | Literal["none"] | None = None
    """Put the images beside the labels, under plain unique names: link, copy or none. By default they are copied if the
    format's readers need them there."""
    image_address: str | None = None
    """For label-studio: template of the images' addresses, with {image_id} and {uri}. By default the address of remote
    images, and /data/local-files/?d={image_id} for others."""
    tolerance: float | None = None
    """For polygons: how far an outline may deviate from its mask's, in pixels. 0 keeps every pixel edge. Small masks
    get a finer outline, so that none comes back below IoU 0.99."""
    max_loss: float | None = None
    """Write nothing if any mask would come back with 1 - IoU above this."""
    queue: str | None = None
    """Only the images of a review queue, from `everymask review queue`."""
    exemplars: str | None = None
    """Folder of the exemplars that trained the class head, whose licences and creators LICENSES.txt then names."""
    file_mib: float | None = None
    """For formats that are one file: write a folder of numbered files of about this size, with an index."""
    processes: int | None = None
    """Processes that write, on this machine. By default one per core, or, in a job that was submitted to a Ray cluster,
    tasks on all its machines."""
    uncorrected: bool = False
    """Write the labels as the model made them, without people's corrections."""
    overwrite: bool = False
    """Replace an earlier export."""
    addresses: Annotated[AddressOptions, JOINED] = field(default_factory=AddressOptions)


def write(config: ExportConfig) -> ExportReport:
    """Write the export.

    Raises:
        EverymaskError: no label store, labels the format cannot hold, or an output that cannot be written.
    """
    store = LabelStore(config.labels)
    chosen = find_format(config.format)
    record = read_run(store)
    options = chosen.options(
        config.segmentation,
        config.tolerance,
        config.image_address,
        record.config_sha256[:12] if record else "unknown",
        config.task,
    )
    request = ExportRequest(
        chosen,
        options,
        config.output,
        chosen.images_mode(config.images),
        config.max_loss,
        config.overwrite,
        frozenset(read_queue(config.queue).image_ids) if config.queue else None,
        SplitOptions.parse(config.split, config.split_by, config.split_file),
        not config.uncorrected,
        policy=address_policy(store, config.addresses.local_root, config.addresses.allow_private_networks),
        exemplars=config.exemplars,
        file_mib=config.file_mib,
    )
    if config.processes is not None and config.processes < 1:
        raise ConfigurationError(f"--processes must be at least 1; got {config.processes}")
    write_shares = _writers(config.processes)
    line: ProgressLine | None = None

    def show(done: int, total: int) -> None:
        nonlocal line
        line = line or ProgressLine(total, verb="exported")
        line.update(done, 0)

    try:
        return export(store, request, show, write_shares)
    finally:
        if line is not None:
            line.close()


def _writers(processes: int | None) -> WriteShares:
    if processes is None and os.environ.get("RAY_ADDRESS"):
        from data_jobs.exporting.on_ray import on_ray  # takes seconds, and most exports do without

        return on_ray()
    processes = processes or usable_cores()
    return write_in_processes(processes) if processes > 1 else write_here


def run(config: ExportConfig) -> int:
    """Write the export and report what it lost; returns the exit code. Raises as `write`."""
    report = write(config)
    for number, text in enumerate(report.lines()):
        print(text if number else f"{config.output}: {text}")
    tell(output=config.output, format=config.format, images=report.images, masks=report.masks, errors=report.errors)
    return DONE


command = Command("export", ExportConfig, run, "Turn a label store into a format that other tools read.")

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
