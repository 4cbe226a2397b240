"""Embeddings between replicas.

A pickle's content is copied in and out. A NumPy array beside it goes through Ray's shared memory instead, with one copy
on either side. An embedding has megabytes, so this dominates the cost.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.protocol import ImageEmbedding


@dataclass(frozen=True)
class PackedEmbedding:
    """An embedding without its tensors and arrays, and the arrays; tensors as bytes."""

    content: bytes
    arrays: tuple[NDArray[Any], ...]


def pack(embedding: ImageEmbedding) -> PackedEmbedding:
    """Pack an embedding whose tensors are on the CPU."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol=5)
    pickler.dump(embedding)
    return PackedEmbedding(buffer.getvalue(), tuple(pickler.arrays))


def unpack(packed: PackedEmbedding) -> ImageEmbedding:
    """The embedding, in memory of its own."""
    embedding: ImageEmbedding = _Unpickler(packed).load()
    return embedding


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.arrays: list[NDArray[Any]] = []

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray):
            self.arrays.append(obj)
            return len(self.arrays) - 1, None, obj.shape
        if not isinstance(obj, torch.Tensor):
            return None
        # As bytes, because NumPy does not know every type, bfloat16 for one.
        self.arrays.append(obj.contiguous().reshape(-1).view(torch.uint8).numpy())
        return len(self.arrays) - 1, obj.dtype, tuple(obj.shape)


class _Unpickler(pickle.Unpickler):
    def __init__(self, packed: PackedEmbedding) -> None:
        super().__init__(io.BytesIO(packed.content))
        self._arrays = packed.arrays

    def persistent_load(self, pid: Any) -> torch.Tensor | NDArray[Any]:
        index, dtype, shape = pid
        if dtype is not None and self._arrays[index].size == 0:
            return torch.empty(shape, dtype=dtype)
        # A copy: Ray's memory is read-only, and would be occupied for as long as the embedding is kept.
        array = self._arrays[index].copy()
        return array if dtype is None else torch.from_numpy(array).view(dtype).reshape(shape)
