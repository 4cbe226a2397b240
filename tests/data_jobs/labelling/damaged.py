"""Parts of a label store whose storage lost a bit."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq


def damage(part: Path, column: str) -> None:
    """Flip a bit in the last byte of a column's pages."""
    metadata = pq.read_metadata(part)
    chunks = [metadata.row_group(0).column(number) for number in range(metadata.num_columns)]
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema.startswith(column))
    content = bytearray(part.read_bytes())
    content[(chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 1] ^= 1
    part.write_bytes(content)
