"""Which parts of a label store count, and their rows as a stream: each once, even while a run seals shards.

`labels/` is listed first, then seals are read: so whatever a seal names is there. Of a shard that is sealed the parts
count that its seal names, of another its small parts, of one with an open seal both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everymask.errors import InputError
from everymask.files.location import Location
from everymask.files.storage import one_line
from everymask.labels.parts import MissingPartError, read_batches
from everymask.labels.shards import Seal, Shard, shard_of_part, shards_of

UPDATE_FOLDER, UPDATED_FILE = "update", "updated.json"
"""New labels of a store, and the file that says that they count (`everymask.labels.updating`)."""

_AT_ONCE = 16
_SHARE = re.compile(r"\d+-of-\d+")
_RELISTINGS = 5


@dataclass(frozen=True)
class Visible:
    """The parts of one shard that count, or those of no shard.

    Attributes:
        shard: None for the parts of a run that is not cut into shards. Foreign files may be among those.
        parts: in a fixed order that is random with respect to the images of a run without shards.
        seal: the shard's, if it has one.
    """

    shard: Shard | None
    parts: tuple[Location, ...]
    seal: Seal | None = None

    @property
    def small(self) -> tuple[Location, ...]:
        """The parts that no seal names."""
        return self.parts if self.seal is None else self.parts[len(self.seal.parts) :]

    @property
    def sealed(self) -> tuple[Location, ...]:
        """The parts that a seal names."""
        return self.parts[: len(self.parts) - len(self.small)]

    @property
    def is_sealed(self) -> bool:
        """Whether nothing but the seal's parts counts."""
        return self.seal is not None and not self.seal.open


def stores_at(root: Location) -> list[Location]:
    """The folders of the stores that are opened as one: those named `<I>-of-<N>` where `root` is not a store itself.

    Of a store whose new labels are complete, but not yet in place, it is the folder of these.

    Raises:
        InputError: the storage does not answer.
    """
    try:
        entries = root.entries()
    except OSError as error:
        raise InputError(f"{root} cannot be listed ({one_line(error)}); try again") from error
    if any(entry.name == UPDATED_FILE for entry in entries):
        return [root.child(UPDATE_FOLDER)]
    if any(entry.name in ("run.json", "labels") for entry in entries):
        return [root]
    return [entry for entry in entries if _SHARE.fullmatch(entry.name)] or [root]


def visible_parts(root: Location) -> list[Visible]:
    """The parts of a store, or of the stores below a folder, that count.

    Those of no shard come first, then by shard, of each shard that has rows or a seal.

    Raises:
        InputError: a seal is damaged, or the storage does not answer.
        ConfigurationError: a seal has a newer format.
    """
    return [group for store in stores_at(root) for group in _visible_parts(store)]


def _visible_parts(root: Location) -> list[Visible]:
    plain: list[Location] = []
    small: dict[int, list[Location]] = {}
    for file in part_files(root):
        of_shard = shard_of_part(file.name)
        if of_shard is None:
            plain.append(file)
        else:
            number, compacted = of_shard
            small.setdefault(number, []).extend([] if compacted else [file])
    groups = [Visible(None, tuple(plain))] if plain else []
    for shard, seal in _seals(root, small):
        if seal is not None or small.get(shard.number):
            groups.append(_visible(shard, small.get(shard.number, []), seal))
    return groups


def part_files(root: Location) -> list[Location]:
    """Every Parquet file in `labels/`, by name, whether it counts or not."""
    files = root.child("labels").entries()
    return [file for file in files if file.name.endswith(".parquet") and not file.name.startswith(".")]


def _seals(root: Location, numbers: Iterable[int]) -> Iterator[tuple[Shard, Seal | None]]:
    """The shards with one of these numbers, or with a folder, in order, each with its seal."""
    try:
        there = {shard.number for shard in shards_of(root)}
        shards = [Shard(root, number) for number in sorted(there.union(numbers))]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from zip(shards, pool.map(Shard.seal, shards), strict=True)
    except OSError as error:
        raise InputError(f"the seals of {root} cannot be read ({one_line(error)}); try again") from error


def _visible(shard: Shard, small: list[Location], seal: Seal | None) -> Visible:
    if seal is None:
        return Visible(shard, tuple(small))
    named = [shard.part(part.name) for part in seal.parts]
    return Visible(shard, (*named, *(small if seal.open else ())), seal)


def stream_rows(
    root: Location, columns: list[str] | None, batch_size: int
) -> Iterator[tuple[Location, pa.RecordBatch]]:
    """All rows with the part they come from, streaming.

    Args:
        root: the store's folder.
        columns: names; None for all.
        batch_size: the most rows at a time.

    Raises:
        InputError: a part is damaged, foreign or missing.
        ConfigurationError: a part has a newer format.
    """
    for group in visible_parts(root):
        if group.shard is None:
            for part in group.parts:
                for batch in read_batches(part, columns, batch_size):
                    yield part, batch
        else:
            yield from _stream_shard(group, group.shard, columns, batch_size)


def _stream_shard(
    group: Visible, shard: Shard, columns: list[str] | None, batch_size: int
) -> Iterator[tuple[Location, pa.RecordBatch]]:
    """The rows of a shard, each once: should its parts be put together meanwhile, what was read is passed over."""
    wanted = None if columns is None else list(dict.fromkeys([*columns, "image_id"]))
    read: list[NDArray[np.int64]] = []
    known = np.array([], dtype=np.int64)
    listed = 0
    while True:
        try:
            for part in group.parts:
                for batch in read_batches(part, wanted, batch_size):
                    ids = _hashes(batch)
                    fresh = batch.filter(pa.array(~np.isin(ids, known))) if known.size else batch
                    read.append(ids)
                    if fresh.num_rows:
                        yield part, fresh if columns is None else fresh.select(columns)
            return
        except MissingPartError:
            listed += 1
            if listed > _RELISTINGS:
                raise
            known = np.concatenate([known, *read])
            read.clear()
            found = [one for one in visible_parts(shard.root) if one.shard and one.shard.number == shard.number]
            if not found or found[0].parts == group.parts:
                raise
            group = found[0]


def _hashes(batch: pa.RecordBatch) -> NDArray[np.int64]:
    return np.array([hash(image_id) for image_id in batch["image_id"].to_pylist()], dtype=np.int64)
