"""Copies a label store in the current format; the original stays unchanged."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow as pa

from everymask.errors import ConfigurationError, InputError
from everymask.files.location import Location
from everymask.labels.correction_log import CorrectionLog, has_corrections, read_history
from everymask.labels.mask_ids import settings_digest, with_mask_ids
from everymask.labels.parts import PartSummary, read_batches, read_header
from everymask.labels.provenance import RunRecord, read_run, write_run
from everymask.labels.rows import ImageRow, from_batch, to_table
from everymask.labels.schema import FORMAT_VERSION
from everymask.labels.store import LabelStore
from everymask.redaction import redact

_WITHOUT_MASK_IDS = 1
_AT_A_TIME = 8
_ROWS = 256

Progress = Callable[[int, int], None]
"""Called with the numbers of images copied and to copy."""


@dataclass(frozen=True)
class Upgrade:
    """The result of a copy.

    Attributes:
        before: the original's format.
        counts: totals of the copy.
        corrections: number of people's entries.
    """

    before: int
    counts: PartSummary
    corrections: int


def upgrade(store: LabelStore, copy: LabelStore, progress: Progress = lambda done, total: None) -> Upgrade:
    """Copy rows, corrections and the run record; the same call resumes if killed, as run.json is written last.

    Args:
        store: of any format.
        copy: a free place, or one where this was begun.
        progress: called after each part.

    Raises:
        ConfigurationError: the copy's place holds something else, or the store has the current or a newer format.
        InputError: there is no label store, or it is damaged.
        OutputError: the copy cannot be written.
    """
    _check_free(copy)
    parts = store.parts()
    record = read_run(store)
    if record is None and not parts:
        raise InputError(f"{redact(store.uri)} is not a label store: it has neither run.json nor labels/*.parquet")
    before, configuration = store.format(), store.configuration()
    if before == FORMAT_VERSION:
        raise ConfigurationError(f"{redact(store.uri)} has format {before} already; there is nothing to upgrade")
    total, counts = store.summary().images, PartSummary()
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for summary in pool.map(lambda part: _copy_part(part, copy, configuration), parts):
            counts += summary
            progress(counts.images, total)
    entries = _copy_corrections(store, copy)
    if store.estimate_file.kind() == "file":
        copy.estimate_file.write(store.estimate_file.read())
    write_run(copy, replace(record or RunRecord(configuration), counts=counts))
    return Upgrade(before, counts, entries)


def _check_free(copy: LabelStore) -> None:
    foreign = next((entry for entry in copy.labels.entries() if not copy.is_ours(entry)), None)
    if copy.exists() or foreign is not None:
        name = copy.run_file.name if copy.exists() else f"labels/{foreign.name if foreign else ''}"
        raise ConfigurationError(f"{redact(copy.uri)} holds {name} already; nothing was touched: choose another output")


def _copy_part(part: Location, copy: LabelStore, configuration: dict[str, object]) -> PartSummary:
    header = read_header(part)
    rows = pa.Table.from_batches(read_batches(part, None, _ROWS))
    if header.format == _WITHOUT_MASK_IDS:
        rows = to_table(_with_ids(image, settings_digest(configuration)) for image in from_batch(rows, str(part)))
    return copy.write_part(rows, header.configuration or configuration)


def _with_ids(image: ImageRow, settings_sha256: str) -> ImageRow:
    if image.labels is None:
        return image
    return replace(image, labels=with_mask_ids(image.labels, image.content_sha256, settings_sha256))


def _copy_corrections(store: LabelStore, copy: LabelStore) -> int:
    entries = [entry for found in read_history(store).entries.values() for entry in found]
    if entries and not has_corrections(copy):
        CorrectionLog(copy).keep(entries)
    return len(entries)
