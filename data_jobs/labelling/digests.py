"""Digests of files that may have changed: read in this process, or by tasks on the cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import ray

from data_jobs.labelling.stages import load_bytes
from data_jobs.runtime.actors import READ_CPUS
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits

Digests = list[str | None]
"""Of each row, null where the file cannot be read."""
ReadDigests = Callable[[Iterable[pa.Table], ImageLimits, AddressPolicy], Iterator[Digests]]
"""Gets tables of `MANIFEST`, and gives the digests of each."""

_AT_ONCE = 64


def read_here(tables: Iterable[pa.Table], limits: ImageLimits, policy: AddressPolicy) -> Iterator[Digests]:
    """A `ReadDigests` in this process."""
    for rows in tables:
        yield _digests_of(rows, limits, policy)


def read_on_workers(tables: Iterable[pa.Table], limits: ImageLimits, policy: AddressPolicy) -> Iterator[Digests]:
    """A `ReadDigests` by tasks of Ray; some are ahead of whoever takes what they find."""
    waiting: deque[ray.ObjectRef[Digests]] = deque()
    for rows in tables:
        waiting.append(_read.remote(rows, limits, policy))
        if len(waiting) == _AT_ONCE:
            yield ray.get(waiting.popleft())
    yield from map(ray.get, waiting)


def _digests_of(rows: pa.Table, limits: ImageLimits, policy: AddressPolicy) -> Digests:
    digests: Digests = load_bytes(rows, limits, policy)["content_sha256"].to_pylist()
    return digests


_read = ray.remote(num_cpus=READ_CPUS)(_digests_of)
