"""The stages that read and write: Arrow table in, Arrow table out. Each runs without Ray as well.

Their workers start in a second, because no model code is imported here; the stage between them has it
(`data_jobs.labelling.labeller`).
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from data_jobs.labelling.guard import MADE_SCHEMA, made
from data_jobs.labelling.ledger import Bookkeeper, timed
from data_jobs.labelling.model_spec import ModelSpec
from everymask.errors import EverymaskError, InputError
from everymask.files.addresses import AddressPolicy
from everymask.files.location import DELAYS_S
from everymask.files.storage import error_number, one_line
from everymask.images.decoding import ImageLimits
from everymask.images.files import read_bytes, read_members
from everymask.labels.members import read_member
from everymask.labels.schema import MANIFEST
from everymask.labels.store import LabelStore
from everymask.redaction import redact

logger = logging.getLogger(__name__)

LOADED_SCHEMA = pa.schema(
    [
        *MANIFEST,
        ("data", pa.large_binary()),
        ("content_sha256", pa.string()),
    ]
)
SUMMARY_SCHEMA = pa.schema(
    [
        ("images", pa.int64()),
        ("errors", pa.int64()),
        ("masks", pa.int64()),
        ("seconds", pa.float64()),
        *MADE_SCHEMA,
    ]
)
_READ, _LOADED = ("uri", "member", "error"), ("error", "data", "content_sha256")
READ_THREADS = 16
_NO_REMEDY_IN_WAITING = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR}) | frozenset(
    {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}
)

T = TypeVar("T")


def read_pending(batch: pa.Table, store: LabelStore) -> pa.Table:
    """(path) of manifest files inside the store → their rows (`MANIFEST`)."""
    return pa.concat_tables(
        pq.read_table(path, filesystem=store.root.filesystem, partitioning=None) for path in batch["path"].to_pylist()
    )


def load_bytes(batch: pa.Table, limits: ImageLimits, policy: AddressPolicy) -> pa.Table:
    """`MANIFEST` → `LOADED_SCHEMA`: reads many files at once; an unreadable one becomes an error.

    `policy` restricts the addresses that are opened.
    """
    groups = _groups(batch.select([name for name in _READ if name in batch.schema.names]).to_pylist())
    with ThreadPoolExecutor(READ_THREADS) if len(groups) > 1 else nullcontext() as pool:
        loaded = (pool.map if pool else map)(lambda group: _load_group(group, limits, policy), groups)
        found = list(itertools.chain.from_iterable(loaded))
    columns = {name: pa.array([row.get(name) for row in found], LOADED_SCHEMA.field(name).type) for name in _LOADED}
    for name in MANIFEST.names:
        if name not in columns:
            field = MANIFEST.field(name)
            there = name in batch.schema.names
            columns[name] = batch[name].cast(field.type) if there else pa.nulls(batch.num_rows, field.type)
    return pa.table(columns).select(LOADED_SCHEMA.names)


def load_and_tell(batch: pa.Table, limits: ImageLimits, policy: AddressPolicy, ledger: Bookkeeper) -> pa.Table:
    """`load_bytes`, timed."""
    with timed(ledger, "read"):
        return load_bytes(batch, limits, policy)


def _groups(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows to read together: neighbours inside one file, and every other row by itself."""

    def place(numbered: tuple[int, dict[str, Any]]) -> object:
        number, row = numbered
        member = row.get("member")
        if member is None or row.get("error"):
            return number
        return row["uri"], member["kind"], member["name"] if member["kind"] == "row" else None

    return [[row for _, row in group] for _, group in itertools.groupby(enumerate(rows), place)]


def _load_group(rows: list[dict[str, Any]], limits: ImageLimits, policy: AddressPolicy) -> list[dict[str, Any]]:
    """The columns `_LOADED` of rows, as far as they are not null."""
    uri = rows[0]["uri"]
    if rows[0].get("error"):
        return rows
    try:
        members = [read_member(row["member"]) for row in rows if row.get("member") is not None]
        if members:
            inside = [member for member in members if member is not None]
            found = _with_retries(uri, lambda: read_members(uri, inside, limits, policy))
        else:
            found = [_with_retries(uri, lambda: read_bytes(uri, limits, policy))]
    except FileNotFoundError:
        found = [InputError("the file is not there")] * len(rows)
    except OSError as error:
        found = [InputError(f"the file cannot be read ({one_line(error)})")] * len(rows)
    except EverymaskError as error:
        found = [InputError(str(error))] * len(rows)
    return list(map(_loaded, found))


def _loaded(data: bytes | InputError) -> dict[str, bytes | str]:
    if isinstance(data, InputError):
        return {"error": str(data)}
    return {"data": data, "content_sha256": hashlib.sha256(data).hexdigest()}


def _with_retries(uri: str, read: Callable[[], T]) -> T:
    for delay in DELAYS_S:
        try:
            return read()
        except OSError as error:
            if error_number(error) in _NO_REMEDY_IN_WAITING or "ACCESS_DENIED" in str(error):  # so pyarrow quotes S3
                raise
            logger.warning("cannot read %s, trying again in %s s: %s", redact(uri), delay, one_line(error))
            time.sleep(delay)
    return read()


class LabellerStage:
    """The `Labeller`, imported on the worker, so that the driver, which only names it, needs no model code."""

    def __init__(self, spec: ModelSpec, ledger: Bookkeeper, together: int) -> None:
        from data_jobs.labelling.labeller import Labeller

        self._labeller = Labeller(spec, ledger, together)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """`LOADED_SCHEMA` → rows of the label store, in order."""
        return self._labeller(batch)


def write_part(
    rows: pa.Table, store: LabelStore, configuration: Mapping[str, Any], shard: int | None = None
) -> pa.Table:
    """Rows of the label store → one row of `SUMMARY_SCHEMA`, once the part is written.

    Raises:
        OutputError: the store cannot be written.
    """
    summary = store.write_part(rows, configuration, shard)
    return pa.Table.from_pylist([asdict(summary) | made(rows)], schema=SUMMARY_SCHEMA)


def write_and_tell(
    rows: pa.Table, store: LabelStore, configuration: Mapping[str, Any], shard: int | None, ledger: Bookkeeper
) -> pa.Table:
    """`write_part`, timed."""
    with timed(ledger, "write"):
        return write_part(rows, store, configuration, shard)
