"""A label store as the release that had format 3 left it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from everymask.labels.schema import ADDED_IN
from everymask.labels.store import LabelStore
from tests.machine import REPOSITORY

VERSION = 3
_KEY = b"everymask"


def write_older(store: LabelStore, folder: Path) -> None:
    """Copy a store of no shards and no corrections, without all that format 4 brought."""
    (folder / "labels").mkdir(parents=True)
    for part in store.parts():
        with part.open() as stream:
            rows = pq.read_table(stream)
        content: dict[str, Any] = json.loads(rows.schema.metadata[_KEY]) | {"format": VERSION}
        del content["sha256"]
        content["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        rows = rows.select([name for name in rows.column_names if ADDED_IN.get(name, 0) <= VERSION])
        assert rows.schema.remove_metadata().equals(_columns())
        ids = "\n".join(sorted(rows["image_id"].to_pylist()))  # how parts were named
        name = f"part-{hashlib.sha256(ids.encode()).hexdigest()[:32]}.parquet"
        pq.write_table(
            rows.replace_schema_metadata({_KEY: json.dumps(content)}),
            folder / "labels" / name,
            compression="zstd",
            write_page_checksum=True,
        )
    record = json.loads(store.run_file.read()) | {"format": VERSION}
    (folder / "run.json").write_text(json.dumps(record, indent=2) + "\n")


def _columns() -> Any:
    """Those of the store that this release wrote."""
    first, *_ = LabelStore(str(REPOSITORY / f"tests/labels/golden/format-{VERSION}")).parts()
    with first.open() as stream:
        return pq.read_schema(stream).remove_metadata()


def digests(folder: Path) -> dict[str, str]:
    """The labels and the record of the run, which nobody rewrites."""
    files = [folder / "run.json", *sorted((folder / "labels").iterdir())]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
