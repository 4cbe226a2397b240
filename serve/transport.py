"""Embeddings on their way from one replica to another.

A pickled tensor is copied into the pickle and out of it again. A NumPy array goes through Ray's shared memory instead,
with one copy on either side. An embedding has megabytes, so this is most of what the way costs.
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
    """An embedding without its tensors, and the bytes of those beside it."""

    content: bytes
    tensors: tuple[NDArray[np.uint8], ...]


def pack(embedding: ImageEmbedding) -> PackedEmbedding:
    """For the way; its tensors must be on the CPU."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol=5)
    pickler.dump(embedding)
    return PackedEmbedding(buffer.getvalue(), tuple(pickler.tensors))


def unpack(packed: PackedEmbedding) -> ImageEmbedding:
    """The embedding, in memory of its own."""
    embedding: ImageEmbedding = _Unpickler(packed).load()
    return embedding


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.tensors: list[NDArray[np.uint8]] = []

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, torch.Tensor):
            return None
        # As bytes, because NumPy does not know every type, bfloat16 for one.
        self.tensors.append(obj.contiguous().reshape(-1).view(torch.uint8).numpy())
        return len(self.tensors) - 1, obj.dtype, tuple(obj.shape)


class _Unpickler(pickle.Unpickler):
    def __init__(self, packed: PackedEmbedding) -> None:
        super().__init__(io.BytesIO(packed.content))
        self._tensors = packed.tensors

    def persistent_load(self, pid: Any) -> torch.Tensor:
        index, dtype, shape = pid
        if self._tensors[index].size == 0:
            return torch.empty(shape, dtype=dtype)
        # A copy: Ray's memory is read-only, and would be occupied for as long as the embedding is kept.
        return torch.from_numpy(self._tensors[index].copy()).view(dtype).reshape(shape)
