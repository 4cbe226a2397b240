"""Lists of images on the way to the labellers: Parquet files in the store's `checkpoint/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_jobs.labelling.inputs import ImageRef, batched
from everymask.files.location import Location
from everymask.labels.members import read_member
from everymask.labels.schema import MANIFEST

_ROWS_PER_FILE = 4096


@dataclass(frozen=True)
class Manifest:
    """A list of images.

    Attributes:
        folder: of Parquet files with `MANIFEST`, numbered from 0.
        images: how many.
        files: how many.
    """

    folder: Location
    images: int = 0
    files: int = 0

    @classmethod
    def at(cls, folder: Location) -> Manifest:
        """An empty list; what an earlier attempt left in the folder goes."""
        folder.delete()
        return cls(folder)

    def locations(self) -> list[Location]:
        """The files, in order."""
        return [self._file(index) for index in range(self.files)]

    def with_more(self, images: Iterable[ImageRef]) -> Manifest:
        """The list with further images, written as they come.

        Raises:
            OutputError: the store is not writable.
        """
        count, files = self.images, self.files
        for batch in batched(images, _ROWS_PER_FILE):
            sink = pa.BufferOutputStream()
            pq.write_table(pa.Table.from_pylist([asdict(image) for image in batch], MANIFEST), sink)
            self._file(files).write(sink.getvalue())
            count += len(batch)
            files += 1
        return Manifest(self.folder, count, files)

    def read(self) -> Iterator[ImageRef]:
        """The images, streaming."""
        for file in self.locations():
            with file.open() as stream:
                rows = pq.read_table(stream).to_pylist()
            yield from map(to_ref, rows)

    def _file(self, index: int) -> Location:
        return self.folder.child(f"{index:06d}.parquet")


def to_ref(row: Mapping[str, Any]) -> ImageRef:
    """A row of `MANIFEST` as a record."""
    return ImageRef(**{**row, "member": read_member(row["member"])})
