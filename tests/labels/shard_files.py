"""Shards of a label store as a run leaves them."""

from __future__ import annotations

import pyarrow as pa

from everymask.labels.rows import ImageRow, to_table
from everymask.labels.schema import MANIFEST
from everymask.labels.shards import (
    Shard,
    write_manifest_file,
)
from everymask.labels.store import LabelStore


def write_shard(store: LabelStore, number: int, found: list[ImageRow], rows_per_part: int = 3) -> Shard:
    shard = Shard(store.root, number)
    listed = pa.table({"image_id": [row.image_id for row in found], "uri": [row.uri for row in found]})
    for name in MANIFEST.names[2:]:
        listed = listed.append_column(MANIFEST.field(name), pa.nulls(len(found), MANIFEST.field(name).type))
    write_manifest_file(shard.manifest_file(0), listed)
    for start in range(0, len(found), rows_per_part):
        store.write_part(to_table(found[start : start + rows_per_part]), {"method": "amg"}, shard=number)
    return shard
