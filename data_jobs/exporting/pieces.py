"""The files of an export's shares as table rows, so that they travel from one machine to another.

A share is written into a folder of its own, and its files are cut into rows; where they arrive they are put together,
in whatever order they come. The share's report comes in the row that says how many there are. It is put in place when
all the others are, as in an export by processes, so a killed export goes on with the other shares.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from everymask.formats.registry import find_format
from everymask.formats.shares import Job, Share, told_file, write_share

PIECE_BYTES = 2**23
"""Most bytes of a file in one row."""
_SCHEMA = pa.schema(
    [
        pa.field("share", pa.int64()),
        pa.field("number", pa.int64()),
        pa.field("rows", pa.int64()),
        pa.field("path", pa.string()),
        pa.field("offset", pa.int64()),
        pa.field("link", pa.string()),
        pa.field("data", pa.large_binary()),
    ]
)


def written_in_place(job: Job, share: Share) -> pa.Table:
    """Write a share where it belongs; the one row says so. Raises as `write_share`."""
    write_share(job, find_format(job.format), share)
    return _row(share=share.number, number=0, rows=1)


def written_pieces(job: Job, share: Share, piece_bytes: int = PIECE_BYTES) -> Iterator[pa.Table]:
    """Write a share into a folder that is gone afterwards; tables of a row each. Raises as `write_share`."""
    with tempfile.TemporaryDirectory() as folder:
        here = replace(job, folder=Path(folder))
        report = told_file(here.folder, share.number)
        report.parent.mkdir()
        write_share(here, find_format(job.format), share)
        files = sorted(path for path in here.folder.rglob("*") if path.is_symlink() or path.is_file())
        number = 0
        for path in files:
            if path != report:
                for piece in _pieces(path, here.folder, piece_bytes):
                    yield _row(share=share.number, number=number, **piece)
                    number += 1
        path_of_report = os.fspath(report.relative_to(folder))
        yield _row(
            share=share.number, number=number, rows=number + 1, path=path_of_report, offset=0, data=report.read_bytes()
        )


def _pieces(path: Path, folder: Path, most_bytes: int) -> Iterator[dict[str, Any]]:
    place = {"path": os.fspath(path.relative_to(folder))}
    if path.is_symlink():
        yield place | {"link": os.readlink(path)}
        return
    offset, size = 0, path.stat().st_size
    with path.open("rb") as stream:
        while offset < size or offset == 0:
            data = stream.read(most_bytes)
            yield place | {"offset": offset, "data": data}
            offset += max(len(data), 1)


def _row(**values: Any) -> pa.Table:
    return pa.Table.from_pylist([values], schema=_SCHEMA)


@dataclass
class _Arrival:
    """The rows of a share that are there; `rows` is their number once the last was seen."""

    there: set[int] = field(default_factory=set)
    rows: int = 0
    report: dict[str, Any] | None = None


def received_shares(folder: Path, rows: Iterable[dict[str, Any]]) -> Iterator[int]:
    """Put files where they belong, in whatever order their rows come; yields the numbers of shares that are whole."""
    arrivals: dict[int, _Arrival] = {}
    for row in rows:
        arrival = arrivals.setdefault(row["share"], _Arrival())
        if row["rows"]:
            arrival.rows, arrival.report = row["rows"], row
        else:
            _put(folder, row)
        arrival.there.add(row["number"])
        if len(arrival.there) == arrival.rows:
            if arrival.report is not None and arrival.report["path"] is not None:
                _put_report(folder, arrival.report)
            del arrivals[row["share"]]
            yield row["share"]


def _put(folder: Path, row: dict[str, Any]) -> None:
    target = folder / row["path"]
    target.parent.mkdir(parents=True, exist_ok=True)
    if row["link"] is not None or target.is_symlink():
        target.unlink(missing_ok=True)  # an attempt that was killed may have got this far
    if row["link"] is not None:
        os.symlink(row["link"], target)
        return
    # What such an attempt left of a file is the beginning of the same bytes.
    with open(os.open(target, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as stream:
        stream.seek(row["offset"])
        stream.write(row["data"])


def _put_report(folder: Path, row: dict[str, Any]) -> None:
    """Put the report of a share in place at once: it says that all other files are there."""
    target = folder / row["path"]
    draft = target.with_suffix(".draft")
    draft.write_bytes(row["data"])
    os.replace(draft, target)
