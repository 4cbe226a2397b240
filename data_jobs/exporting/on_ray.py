"""Writes the shares of an export as tasks of Ray Data, on all machines of a cluster.

A machine that sees the export's folder writes into it. The files that others write come to the driver through Ray.
"""

from __future__ import annotations

import itertools
import pickle
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import ray

from data_jobs.exporting.pieces import received_shares, written_in_place, written_pieces
from data_jobs.runtime.actors import connect
from data_jobs.runtime.ray_data import prepare_ray_data, rows_of
from everymask.files.storage import canonical_uri
from everymask.formats.format import SCRATCH, Format
from everymask.formats.processes import WriteShares
from everymask.formats.shares import Job, Share, Told, told_file
from everymask.labels.store import LabelStore

_SHARES_AT_ONCE = 256
"""Shares of one Ray dataset, up to half a million images: the driver never holds the names of all of them twice."""
_TOKEN = "seen"


def on_ray(direct: bool | None = None) -> WriteShares:
    """Write shares on the cluster that this process has joined, or joins now.

    `direct`: whether tasks write into the export's folder; None where they see it.
    """

    def write(job: Job, chosen: Format, shares: Iterable[Share], done: Callable[[int], None]) -> Iterator[Told]:
        connect()
        prepare_ray_data()
        token = uuid.uuid4().hex
        (job.folder / SCRATCH / _TOKEN).write_text(token, encoding="utf-8")
        found_anywhere = replace(job, store=LabelStore(canonical_uri(job.store.uri)))  # from any working directory
        task = partial(_written, job=found_anywhere, token=token, direct=direct)
        shares = iter(shares)
        while some := list(itertools.islice(shares, _SHARES_AT_ONCE)):
            rows = [{"share": pickle.dumps(share)} for share in some]
            pieces = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                task, batch_size=1, batch_format="pyarrow", num_cpus=1
            )
            for number in received_shares(job.folder, rows_of(pieces)):
                told = Told.kept(told_file(job.folder, number))
                if told is None:
                    raise RuntimeError(f"share {number} of the export came without its report")
                done(told.images)
                yield told

    return write


def _written(batch: pa.Table, job: Job, token: str, direct: bool | None) -> Iterator[pa.Table]:
    """Write one share; rows of `pieces`."""
    share: Share = pickle.loads(batch["share"][0].as_py())
    if _sees(job.folder, token) if direct is None else direct:
        yield written_in_place(job, share)
    else:
        yield from written_pieces(job, share)


def _sees(folder: Path, token: str) -> bool:
    try:
        return (folder / SCRATCH / _TOKEN).read_text(encoding="utf-8") == token
    except OSError:
        return False
