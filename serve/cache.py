"""A cache for repeated requests on an image, which drops the least recently used entries first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Generic, TypeVar

import numpy as np

from everymask.backbone.protocol import ImageEmbedding
from everymask.classes.embeddings import MaskEmbeddings
from everymask.records import ImageLabels

_MASK_BYTES = 700
"""Approximate bytes of a mask's record without its run-length encoding."""
_RECORD_BYTES = 1024
"""Approximate bytes of an entry without arrays, masks and its key."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def embedding_bytes(embedding: ImageEmbedding) -> int:
    """An embedding's memory in bytes."""
    tensors = [embedding.canvas.cell_index, embedding.canvas.cell_area, *embedding.features.values()]
    pictures = [embedding.canvas_image] + ([] if embedding.picture is None else [embedding.picture])
    return sum(int(picture.nbytes) for picture in pictures) + sum(
        tensor.numel() * tensor.element_size() for tensor in tensors
    )


def answer_bytes(answer: ImageLabels | MaskEmbeddings) -> int:
    """An answer's approximate memory in bytes."""
    if isinstance(answer, ImageLabels):
        return sum(_MASK_BYTES + len(mask.rle["counts"]) for mask in answer.masks)
    return _array_bytes(answer) + sum(_MASK_BYTES + len(rle["counts"]) for rle in answer.rles)


def entry_bytes(key: Hashable) -> int:
    """An entry's approximate memory in bytes, apart from its value's arrays and masks."""
    return _RECORD_BYTES + len(repr(key))


def _array_bytes(value: object) -> int:
    """Bytes of the arrays in a record and its nested records."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if is_dataclass(value):
        return sum(_array_bytes(getattr(value, field.name)) for field in fields(value))
    return 0


class BoundedCache(Generic[K, V]):
    """Values by key, in at most `max_bytes` with their keys. For one event loop; not thread-safe."""

    def __init__(self, max_bytes: int, size_bytes: Callable[[V], int]) -> None:
        self.max_bytes = max_bytes
        self._size_bytes = size_bytes
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """A key's value, now the most recently used, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V) -> None:
        """Keep a value, dropping the least recently used ones to make room; one larger than the cache is not kept."""
        size = entry_bytes(key) + self._size_bytes(value)
        _, replaced = self._entries.pop(key, (None, 0))
        self._held_bytes -= replaced
        if size > self.max_bytes:
            return
        self._entries[key] = (value, size)
        self._held_bytes += size
        while self._held_bytes > self.max_bytes:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._held_bytes -= dropped
