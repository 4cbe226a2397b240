"""The stages that read and write: Arrow table in, Arrow table out. Each runs without Ray as well.

Their workers start in a second, because no model code is imported here; the stage between them has it
(`data_jobs.labelling.labeller`).
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_jobs.labelling.ledger import Bookkeeper
from data_jobs.labelling.manifests import MANIFEST_SCHEMA
from data_jobs.labelling.model_spec import ModelSpec
from everymask.errors import EverymaskError
from everymask.files.addresses import AddressPolicy
from everymask.files.storage import one_line
from everymask.images.decoding import ImageLimits
from everymask.images.files import read_bytes
from everymask.labels.store import LabelStore
from everymask.redaction import redact

logger = logging.getLogger(__name__)

LOADED_SCHEMA = pa.schema(
    [
        *MANIFEST_SCHEMA,
        ("data", pa.large_binary()),
        ("content_sha256", pa.string()),
    ]
)
SUMMARY_SCHEMA = pa.schema(
    [("images", pa.int64()), ("errors", pa.int64()), ("masks", pa.int64()), ("seconds", pa.float64())]
)
READ_THREADS = 16
_READ_DELAYS_S = (0.2, 1.0)


def read_pending(batch: pa.Table, store: LabelStore) -> pa.Table:
    """(path) of manifest files inside the store → their rows (`MANIFEST_SCHEMA`)."""
    return pa.concat_tables(
        pq.read_table(path, filesystem=store.root.filesystem, partitioning=None) for path in batch["path"].to_pylist()
    )


def load_bytes(batch: pa.Table, limits: ImageLimits, policy: AddressPolicy) -> pa.Table:
    """`MANIFEST_SCHEMA` → `LOADED_SCHEMA`: files are read many at once; one that cannot be read becomes an error.

    `policy` says what is opened of the addresses.
    """
    rows = batch.to_pylist()
    with ThreadPoolExecutor(READ_THREADS) as pool:
        loaded = list(pool.map(lambda row: {} if row.get("error") else _load(row["uri"], limits, policy), rows))
    return pa.Table.from_pylist([{**row, **found} for row, found in zip(rows, loaded, strict=True)], LOADED_SCHEMA)


def _load(uri: str, limits: ImageLimits, policy: AddressPolicy) -> dict[str, bytes | str]:
    try:
        data = _read_with_retries(uri, limits, policy)
    except FileNotFoundError:
        return {"error": "the file is not there"}
    except OSError as error:
        return {"error": f"the file cannot be read ({one_line(error)})"}
    except EverymaskError as error:
        return {"error": str(error)}
    return {"data": data, "content_sha256": hashlib.sha256(data).hexdigest()}


def _read_with_retries(uri: str, limits: ImageLimits, policy: AddressPolicy) -> bytes:
    for delay in _READ_DELAYS_S:
        try:
            return read_bytes(uri, limits, policy)
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            raise
        except OSError as error:
            logger.warning("cannot read %s, trying again in %s s: %s", redact(uri), delay, one_line(error))
            time.sleep(delay)
    return read_bytes(uri, limits, policy)


class LabellerStage:
    """The `Labeller`, imported on the worker: the driver, which only names it, needs no model code."""

    def __init__(self, spec: ModelSpec, ledger: Bookkeeper) -> None:
        from data_jobs.labelling.labeller import Labeller

        self._labeller = Labeller(spec, ledger)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """`LOADED_SCHEMA` → rows of the label store, in order."""
        return self._labeller(batch)


def write_part(rows: pa.Table, store: LabelStore, configuration: Mapping[str, Any]) -> pa.Table:
    """Rows of the label store → one row of `SUMMARY_SCHEMA`, after the part is safely there.

    Raises:
        OutputError: the store cannot be written.
    """
    return pa.Table.from_pylist([asdict(store.write_part(rows, configuration))], schema=SUMMARY_SCHEMA)
