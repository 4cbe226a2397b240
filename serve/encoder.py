"""The encoder deployment: image files of many requests → embeddings, in batches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.concepts import FindsConcepts
from everymask.backbone.devices import device_for
from everymask.backbone.embedding import embed_images
from everymask.backbone.protocol import ImageEmbedding
from everymask.backbone.registry import load_backbone
from everymask.errors import EverymaskError
from everymask.images.decoding import decode_image
from serve.batching import Batcher
from serve.device import DeviceGuard
from serve.errors import EncodingFailedError
from serve.metrics import EncoderMetrics, MemoryMetrics, StageTimer
from serve.settings import ServiceSettings
from serve.tasks import Embedded, Milliseconds, Outcome
from serve.transport import pack

_Encoded = ImageEmbedding | EverymaskError

logger = logging.getLogger("ray.serve")


class Encoder:
    """Decodes and encodes. A replica is ready only once it has loaded the weights."""

    def __init__(self, settings: ServiceSettings) -> None:
        torch.set_num_threads(settings.torch_threads)
        self._limits = settings.limits
        device = device_for(settings.device, settings.encoder.num_gpus)
        self._backbone = load_backbone(settings.model, settings.checkpoint, device, settings.precision)
        if settings.names_by == "concepts":
            cast(FindsConcepts, self._backbone).keep_for_concepts()
        self._device_guard = DeviceGuard()
        self._stage = StageTimer()
        self._metrics = EncoderMetrics()
        self._memory = MemoryMetrics(self._backbone.device)
        # A large image takes seconds and a multiple of its size to decode. What waits for a decoder leaves with its
        # request.
        self._decoders = ThreadPoolExecutor(max_workers=settings.decoders, thread_name_prefix="decode")
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed")
        self._batcher = Batcher(self._embed_batch, settings.max_batch_size)

    def check_health(self) -> None:
        """Called by Serve every few seconds; DeviceLostError if this replica must be replaced.

        It also sets the gauge of memory, which drops out of Ray's metrics if it is not set for twenty seconds.
        """
        self._device_guard.check()
        self._memory.tell()

    async def embed(self, data: bytes) -> Embedded:
        """One image file's embedding, on the CPU; errors of the image are returned, not raised.

        Serve logs a raised error with a traceback, which a client's mistake does not deserve.
        """
        began = time.perf_counter()
        spent: Milliseconds = {}
        try:
            image = await asyncio.get_running_loop().run_in_executor(self._decoders, self._decode, data, spent)
            with self._device_guard():
                embedding, spent["embed"] = await self._batcher(image)
        except EverymaskError as error:
            return error
        if isinstance(embedding, EverymaskError):
            return embedding
        packed = pack(embedding)
        spent["encoder"] = (time.perf_counter() - began) * 1000 - sum(spent.values())
        return Outcome(packed, False, spent)

    def _decode(self, data: bytes, spent: Milliseconds) -> NDArray[np.uint8]:
        with self._stage("decode", spent):
            return decode_image(data, self._limits)

    async def _embed_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[tuple[_Encoded, float]]:
        """Embeddings or errors, and the batch's milliseconds."""
        self._metrics.encodes(len(images))
        spent: Milliseconds = {}
        with self._stage("embed", spent):
            embedded = await asyncio.get_running_loop().run_in_executor(self._worker, self._embed, images)
        return [(item, spent["embed"]) for item in embedded]

    def _embed(self, images: Sequence[NDArray[np.uint8]]) -> list[_Encoded]:
        try:
            embedded = embed_images(self._backbone, images, keep_picture=True)
        except torch.AcceleratorError:
            raise
        except Exception:  # whatever one image brings about: the others in its batch must not share it
            if len(images) > 1:
                return [item for image in images for item in self._embed([image])]
            logger.exception("an image of shape %s could not be encoded", images[0].shape)
            return [EncodingFailedError("the image could not be encoded")]
        return [item.to("cpu") if isinstance(item, ImageEmbedding) else item for item in embedded]
