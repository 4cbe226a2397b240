"""Lists of images on the way to the labellers: Parquet files in the store's `checkpoint/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_jobs.labelling.inputs import ImageRef, batched
from everymask.files.location import Location
from everymask.labels.members import read_member
from everymask.labels.schema import MANIFEST
from everymask.records import Member

_ROWS_PER_FILE = 4096
_OF_MEMBERS = [field.name for field in fields(Member)]


@dataclass(frozen=True)
class Manifest:
    """A list of images.

    Attributes:
        folder: of Parquet files with `MANIFEST`, numbered from 0.
        images: their number.
        files: their number.
    """

    folder: Location
    images: int = 0
    files: int = 0

    @classmethod
    def at(cls, folder: Location) -> Manifest:
        """An empty list; deletes an earlier attempt's files in the folder."""
        folder.delete()
        return cls(folder)

    def locations(self) -> list[Location]:
        return [self._file(index) for index in range(self.files)]

    def with_more(self, images: Iterable[ImageRef]) -> Manifest:
        """This list with further images, written as they come.

        Raises:
            OutputError: the store is not writable.
        """
        return self.with_tables(map(to_table, batched(images, _ROWS_PER_FILE)))

    def with_tables(self, tables: Iterable[pa.Table]) -> Manifest:
        """This list with further rows of `MANIFEST`, written as they come, in files of some thousand.

        Raises:
            OutputError: the store is not writable.
        """
        count, files = self.images, self.files
        for table in tables:
            for start in range(0, table.num_rows, _ROWS_PER_FILE):
                rows = table.slice(start, _ROWS_PER_FILE)
                sink = pa.BufferOutputStream()
                pq.write_table(rows, sink)
                self._file(files).write(sink.getvalue())
                count += rows.num_rows
                files += 1
        return Manifest(self.folder, count, files)

    def tables(self) -> Iterator[pa.Table]:
        """The rows, file by file."""
        for file in self.locations():
            with file.open() as stream:
                yield pq.read_table(stream)

    def read(self) -> Iterator[ImageRef]:
        """The images, streaming."""
        for table in self.tables():
            yield from map(to_ref, table.to_pylist())

    def _file(self, index: int) -> Location:
        return self.folder.child(f"{index:06d}.parquet")


def to_table(images: Sequence[ImageRef]) -> pa.Table:
    """Records as rows of `MANIFEST`."""
    # Not `asdict`, which copies each value for as long as all the rest takes.
    members = [
        None if (member := image.member) is None else {name: getattr(member, name) for name in _OF_MEMBERS}
        for image in images
    ]
    columns = [members if name == "member" else [getattr(image, name) for image in images] for name in MANIFEST.names]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, MANIFEST, strict=True)]
    return pa.Table.from_arrays(arrays, schema=MANIFEST)


def to_ref(row: Mapping[str, Any]) -> ImageRef:
    """A row of `MANIFEST` as a record."""
    return ImageRef(**{**row, "member": read_member(row["member"])})
