"""Image embeddings kept for the next click, least recently used out first."""

from __future__ import annotations

from collections import OrderedDict

from everymask.backbone.protocol import ImageEmbedding


def embedding_bytes(embedding: ImageEmbedding) -> int:
    """Memory an embedding holds, in bytes."""
    tensors = [embedding.canvas.cell_index, embedding.canvas.cell_area, *embedding.features.values()]
    return int(embedding.canvas_image.nbytes) + sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class EmbeddingCache:
    """Embeddings by image id, at most `max_bytes` of them. For one event loop; not thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[str, tuple[ImageEmbedding, int]] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Memory of all embeddings held."""
        return self._held_bytes

    def __len__(self) -> int:
        """How many embeddings are held."""
        return len(self._entries)

    def get(self, image_id: str) -> ImageEmbedding | None:
        """The embedding of an image, now the most recently used; None when it is not there."""
        entry = self._entries.get(image_id)
        if entry is None:
            return None
        self._entries.move_to_end(image_id)
        return entry[0]

    def put(self, image_id: str, embedding: ImageEmbedding) -> None:
        """Keep an embedding, and drop the longest unused ones while there is not room for all.

        One larger than the whole cache is not kept.
        """
        size = embedding_bytes(embedding)
        _, replaced = self._entries.pop(image_id, (None, 0))
        self._held_bytes -= replaced
        if size > self.max_bytes:
            return
        self._entries[image_id] = (embedding, size)
        self._held_bytes += size
        while self._held_bytes > self.max_bytes:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._held_bytes -= dropped
