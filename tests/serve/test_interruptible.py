"""One request must not hold a worker that nobody waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from everymask.backbone.protocol import ImageEmbedding, PreparedImage, PromptableBackbone, PromptMasks
from everymask.backbone.sam import SamBackbone
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig
from serve.encoder import Encoder
from serve.errors import EncodingFailedError, to_service_error
from serve.interruptible import Interrupted, run_interruptibly
from serve.settings import read_settings
from tests.serve.pictures import picture

EVERY_MASK = AmgConfig(points_per_side=8, points_per_batch=1, pred_iou_thresh=0, stability_score_thresh=0)


class CountingBackbone:
    """The model, which tells how often it was asked for masks and waits for `go` before the second time."""

    def __init__(self, model: SamBackbone) -> None:
        self._model = model
        self.asked = 0
        self.first = threading.Event()
        self.go = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        self.asked += 1
        if self.asked == 2:
            self.first.set()
            self.go.wait(30)
        return self._model.decode_points(embedding, point_coords)


def test_labelling_ends_between_batches_when_its_request_does(tiny_sam: SamBackbone) -> None:
    embedding = tiny_sam.embed([np.asarray(picture(0))])[0]
    model: Any = CountingBackbone(tiny_sam)
    ended: list[type[BaseException]] = []

    def work(backbone: PromptableBackbone) -> None:
        try:
            segment_amg(backbone, embedding, EVERY_MASK)
        except BaseException as error:
            ended.append(type(error))
            raise

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as worker:
            request = asyncio.create_task(run_interruptibly(worker, model, work))
            await asyncio.to_thread(model.first.wait, 30)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            model.go.set()

    asyncio.run(scenario())
    assert ended == [Interrupted]
    assert model.asked == 2


def test_an_answer_that_is_wanted_is_the_librarys(tiny_sam: SamBackbone) -> None:
    embedding = tiny_sam.embed([np.asarray(picture(0))])[0]

    async def scenario() -> Any:
        with ThreadPoolExecutor(1) as worker:
            return await run_interruptibly(worker, tiny_sam, lambda model: segment_amg(model, embedding, EVERY_MASK))

    assert asyncio.run(scenario()) == segment_amg(tiny_sam, embedding, EVERY_MASK)


class FailingOn:
    """A model with a fault that shows on images of one height only."""

    def __init__(self, model: SamBackbone, height: int) -> None:
        self._model = model
        self._height = height

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def embed_prepared(self, images: Sequence[PreparedImage]) -> list[ImageEmbedding]:
        if any(image.size_hw[0] == self._height for image in images):
            raise RuntimeError("an index out of range, say")
        return self._model.embed_prepared(images)


def test_a_batch_does_not_share_the_failure_of_one_of_its_images(
    tiny_sam: SamBackbone, tiny_sam_checkpoint: Any
) -> None:
    encoder = Encoder(read_settings({"model": "vit_b", "checkpoint": str(tiny_sam_checkpoint), "device": "cpu"}))
    encoder._backbone = FailingOn(tiny_sam, 33)  # type: ignore[assignment]
    images = [np.asarray(picture(seed, (48, height))) for seed, height in enumerate((32, 33, 34))]
    first, failed, last = encoder._embed(images)
    assert isinstance(first, ImageEmbedding)
    assert isinstance(last, ImageEmbedding)
    assert isinstance(failed, EncodingFailedError)
    answer = to_service_error(failed, 1)
    assert (answer.status, answer.code) == (500, "internal_error")
    assert "index" not in answer.message


def test_work_is_done_by_the_worker_that_is_named(tiny_sam: SamBackbone) -> None:
    async def thread() -> str:
        with ThreadPoolExecutor(1, thread_name_prefix="of the refiner") as worker:
            return await run_interruptibly(worker, tiny_sam, lambda model: threading.current_thread().name)

    assert asyncio.run(thread()).startswith("of the refiner")
