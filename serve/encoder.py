"""The encoder deployment: image files of many requests → embeddings, a batch at a time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from ray import serve

from everymask.backbone import load_backbone
from everymask.backbone.protocol import ImageEmbedding
from everymask.errors import EverymaskError
from everymask.images import decode_image
from everymask.labelling import embed_images
from serve.metrics import EncoderMetrics, StageTimer
from serve.settings import ServiceSettings


class Encoder:
    """Decodes and encodes. Weights are loaded once, when the replica starts; a replica without them never is ready."""

    def __init__(self, settings: ServiceSettings) -> None:
        torch.set_num_threads(settings.torch_threads)
        self._limits = settings.limits
        self._keep_picture = settings.classes.masks.describer != "none"
        self._backbone = load_backbone(settings.model, settings.checkpoint, settings.device)
        self._stage = StageTimer()
        self._metrics = EncoderMetrics()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed")
        self._idle = asyncio.Event()
        self._idle.set()
        self._embed_batch.set_max_batch_size(settings.max_batch_size)  # type: ignore[attr-defined]

    async def embed(self, data: bytes) -> ImageEmbedding | EverymaskError:
        """The embedding of one image file, on the CPU; what is wrong with the image is returned, not raised.

        An error that is raised goes into Serve's log with a traceback, which a client's mistake is not worth.
        """
        try:
            with self._stage("decode"):
                image = await asyncio.to_thread(decode_image, data, self._limits)
        except EverymaskError as error:
            return error
        # Whoever arrives while the model is busy waits here, and they all enter the next batch together. Serve forms a
        # batch when its first request arrives, not when the model is free: without this gate, requests that arrive one
        # by one would queue up as batches of one, and a waiting time would delay a lone request for nothing.
        await self._idle.wait()
        embedding: ImageEmbedding | EverymaskError = await self._embed_batch(image)
        return embedding

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0)
    async def _embed_batch(self, images: list[NDArray[np.uint8]]) -> list[ImageEmbedding | EverymaskError]:
        self._idle.clear()
        self._metrics.encodes(len(images))
        try:
            with self._stage("embed"):
                return await asyncio.get_running_loop().run_in_executor(self._worker, self._embed, images)
        finally:
            self._idle.set()

    def _embed(self, images: list[NDArray[np.uint8]]) -> list[ImageEmbedding | EverymaskError]:
        embedded = embed_images(self._backbone, images, self._keep_picture)
        return [item.to("cpu") if isinstance(item, ImageEmbedding) else item for item in embedded]
