"""The refiner deployment: an embedding → masks. It keeps embeddings, so that the next click needs no encoder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

import torch

from everymask.backbone import load_backbone
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.segmenter import embed_masks
from everymask.clicks import ClickPrompt, segment_clicks
from everymask.errors import EverymaskError
from everymask.label_config import LabelConfig
from everymask.labelling import label_embedding
from everymask.records import ImageLabels
from serve.cache import EmbeddingCache
from serve.errors import ImageUnknownError
from serve.metrics import CacheMetrics, StageTimer
from serve.schema import Method
from serve.settings import ServiceSettings


@dataclass(frozen=True)
class LabelTask:
    """Masks of everything, by E-SAM or by the plain automatic generator."""

    method: Method


@dataclass(frozen=True)
class ClickTask:
    """Masks of one object a person points at."""

    prompt: ClickPrompt
    max_masks: int


@dataclass(frozen=True)
class MaskTask:
    """Masks with what a class head reads of them."""


Task = LabelTask | ClickTask | MaskTask

Refined = ImageLabels | MaskEmbeddings | EverymaskError

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True)
class ModelDescription:
    """The backbone a replica runs."""

    name: str
    weights_sha256: str
    device: str


class Refiner:
    """Answers prompts on embeddings, its own or one that comes with the request."""

    def __init__(self, settings: ServiceSettings) -> None:
        torch.set_num_threads(settings.torch_threads)
        self._settings = settings
        self._backbone: PromptableBackbone = load_backbone(settings.model, settings.checkpoint, settings.device)
        self._labels = LabelConfig(entities=settings.entities, amg=settings.amg, classes=settings.classes)
        self._cache = EmbeddingCache(settings.embedding_cache_mib * 2**20)
        self._stage = StageTimer()
        self._cache_metrics = CacheMetrics()
        # One image at a time: two side by side on one device only slow each other down. A request cancelled while it
        # waits leaves the queue; one cancelled at work is finished first, so cancelled work never piles up.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="refine")

    def check_health(self) -> None:
        """Called by Serve every ten seconds. A gauge that is not set again drops out of Ray's metrics after twenty."""
        self._cache_metrics.holds(len(self._cache), self._cache.held_bytes)

    async def describe(self) -> ModelDescription:
        """What runs here."""
        return ModelDescription(self._backbone.name, self._backbone.weights_sha256, str(self._backbone.device))

    async def refine(self, image_id: str, task: Task, embedding: ImageEmbedding | EverymaskError) -> Refined:
        """Do `task` on an embedding, and keep it for later requests on the same image.

        What is wrong with the image or the prompt is returned, not raised; so is what the encoder found.
        """
        if isinstance(embedding, EverymaskError):
            return embedding
        kept = embedding.to(self._backbone.device)
        self._cache.put(image_id, kept)
        return await self._run(task, kept)

    async def refine_kept(self, image_id: str, task: Task) -> Refined:
        """Do `task` on the embedding kept for an image; `ImageUnknownError`, returned, when there is none."""
        embedding = self._cache.get(image_id)
        self._cache_metrics.looked_up(embedding is not None)
        if embedding is None:
            return ImageUnknownError(
                f"image_id {image_id} is not, or no longer, known here; send the image itself, with the id if you like"
            )
        return await self._run(task, embedding)

    async def _run(self, task: Task, embedding: ImageEmbedding) -> Refined:
        try:
            return await self._answer(task, embedding)
        except EverymaskError as error:
            return error

    async def _answer(self, task: Task, embedding: ImageEmbedding) -> ImageLabels | MaskEmbeddings:
        match task:
            case LabelTask(method=method):
                config = replace(self._labels, method=method)
                return await self._work(method, label_embedding, self._backbone, embedding, config)
            case ClickTask(prompt=prompt, max_masks=max_masks):
                return await self._work("clicks", segment_clicks, self._backbone, embedding, prompt, max_masks)
            case MaskTask():
                return await self._work("masks", embed_masks, self._backbone, embedding, self._settings.classes)

    async def _work(self, stage: str, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        def timed() -> _R:
            with self._stage(stage):
                return function(*args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._worker, timed)
