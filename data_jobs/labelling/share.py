"""One of several runs that divide an input among themselves, such as the tasks of a job array."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from data_jobs.labelling.inputs import ImageRef
from everymask.errors import ConfigurationError
from everymask.files.storage import is_remote, split_query


@dataclass(frozen=True)
class Share:
    """The `number`-th of `count` shares, from 1. A file's address decides which share gets all its images."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Parse `3/16`; ConfigurationError for anything else."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigurationError(f"shard must be I/N with 1 <= I <= N, such as 3/16; got {text!r}")
        return cls(int(found[1]), int(found[2]))

    def of(self, images: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """The images of this share."""
        return (image for image in images if self._has(image.uri))

    def output(self, output: str) -> str:
        """The store of this share, below the folder that opens as all of them."""
        place, query = split_query(output) if is_remote(output) else (output, "")
        return f"{place.rstrip('/')}/{self.number:0{len(str(self.count))}d}-of-{self.count}{query}"

    def _has(self, uri: str) -> bool:
        plain = split_query(uri)[0] if is_remote(uri) else uri
        digest = hashlib.blake2b(plain.encode(), digest_size=8).digest()
        return int.from_bytes(digest) % self.count == self.number - 1
