"""The refiner deployment: an image → masks. It caches embeddings and answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from ray.serve.handle import DeploymentHandle

from everymask.backbone.devices import device_for
from everymask.backbone.protocol import MASKS_PER_PROMPT, ForgetsEncoder, ImageEmbedding, PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.classes.concepts import segment_alike
from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.segmenter import describe_masks
from everymask.errors import ConfigurationError, EverymaskError, InputError
from everymask.labelling.clicks import segment_clicks
from everymask.labelling.label import label_embedding
from everymask.labelling.overlap import images_at_once
from everymask.labelling.turns import TakesTurns
from everymask.records import ImageLabels
from serve.cache import BoundedCache, answer_bytes, embedding_bytes
from serve.calls import result, start
from serve.device import DeviceGuard
from serve.errors import ImageUnknownError, TooCostlyError
from serve.interruptible import run_interruptibly
from serve.metrics import CacheMetrics, MemoryMetrics, StageTimer
from serve.names import config_by_examples, config_by_names, load_for_names
from serve.settings import ServiceSettings
from serve.tasks import (
    AlikeTask,
    ClickTask,
    Embedded,
    EverythingTask,
    MaskTask,
    Milliseconds,
    ModelDescription,
    NamesTask,
    Outcome,
    Refined,
    RequestImage,
    Task,
)
from serve.transport import unpack

_R = TypeVar("_R")


class Refiner:
    """Answers prompts on images; asks the encoder for embeddings missing from its cache."""

    def __init__(self, settings: ServiceSettings, encoder: DeploymentHandle[Any]) -> None:
        torch.set_num_threads(settings.torch_threads)
        self._settings = settings
        self._encoder = encoder
        device = device_for(settings.device, settings.refiner.num_gpus)
        self._device_guard = DeviceGuard()
        self._backbone: PromptableBackbone = load_backbone(
            settings.model, settings.checkpoint, device, settings.precision
        )
        self._labels = replace(settings.labels, min_region_area=0, max_region_area=None)
        self._names_by = settings.names_by
        if settings.names_by is not None:
            load_for_names(settings.labels, settings.names_by, self._backbone)
        if isinstance(self._backbone, ForgetsEncoder):  # embeddings come from the encoder's replicas
            self._backbone.forget_encoder()
            torch.cuda.empty_cache()
        self._embeddings = BoundedCache[str, ImageEmbedding](settings.embedding_cache_mib * 2**20, embedding_bytes)
        self._answers = BoundedCache[tuple[str, Task], ImageLabels | MaskEmbeddings](
            settings.answer_cache_mib * 2**20, answer_bytes
        )
        self._stage = StageTimer()
        self._cache_metrics = CacheMetrics()
        self._memory = MemoryMetrics(self._backbone.device)
        # On a CPU one image at a time: two side by side only slow each other down. A GPU computes for one image while
        # the host refines others.
        at_once = max(1, images_at_once(self._backbone.device))
        self._workers = ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="refine")
        self._turn = threading.Lock()

    def check_health(self) -> None:
        """Called by Serve every few seconds; DeviceLostError if this replica must be replaced.

        It also sets gauges, which drop out of Ray's metrics if they are not set for twenty seconds.
        """
        self._device_guard.check()
        self._cache_metrics.holds(len(self._embeddings), self._embeddings.held_bytes)
        self._memory.tell()

    async def describe(self) -> ModelDescription:
        return ModelDescription(self._backbone.name, self._backbone.weights_sha256, str(self._backbone.device))

    async def refine(self, image: RequestImage, task: Task) -> Refined:
        """Do `task` on an image.

        Errors of the image, the prompt or the encoder are returned, not raised.
        """
        began = time.perf_counter()
        spent: Milliseconds = {}
        try:
            with self._device_guard():
                answer, cached = await self._answer(image, task, spent)
        except EverymaskError as error:
            return error
        spent["refiner"] = (time.perf_counter() - began) * 1000 - sum(spent.values())
        return Outcome(answer, cached, spent)

    async def _answer(
        self, image: RequestImage, task: Task, spent: Milliseconds
    ) -> tuple[ImageLabels | MaskEmbeddings, bool]:
        kept_answer = self._answers.get((image.key, task))
        embedding = self._embeddings.get(image.key)
        cached = kept_answer is not None or embedding is not None
        self._cache_metrics.looked_up(cached)
        if kept_answer is not None:
            return kept_answer, cached
        if embedding is None:
            embedding = await self._embed(image, spent)
            self._embeddings.put(image.key, embedding)
        answer = await self._work(task, embedding, spent)
        # Clicks are many, cheap, and hardly ever the same twice.
        if not isinstance(task, ClickTask):
            self._answers.put((image.key, task), answer)
        return answer, cached

    async def _embed(self, image: RequestImage, spent: Milliseconds) -> ImageEmbedding:
        if image.data is None:
            raise ImageUnknownError(
                f"image_id {image.image_id} is not, or no longer, known here; send the image itself, with the id if "
                "you like"
            )
        began = time.perf_counter()
        embedded: Embedded = await result(start(self._encoder.embed, image.data))
        if isinstance(embedded, EverymaskError):
            raise embedded
        embedding = unpack(embedded.result).to(self._backbone.device)
        total = (time.perf_counter() - began) * 1000
        spent |= embedded.spent
        spent["encoder_hop"] = total - sum(embedded.spent.values())
        return embedding

    async def _work(self, task: Task, embedding: ImageEmbedding, spent: Milliseconds) -> ImageLabels | MaskEmbeddings:
        match task:
            case EverythingTask(method=method):
                if method == "amg":
                    self._check_cost(embedding)
                config = replace(self._labels, method=method)
                return await self._timed(method, spent, lambda model: label_embedding(model, embedding, config))
            case ClickTask(max_masks=max_masks):
                prompt = task.prompt_px(embedding.canvas.original_size_hw)
                return await self._timed(
                    "clicks", spent, lambda model: segment_clicks(model, embedding, prompt, max_masks)
                )
            case MaskTask(crops=crops):
                classes = self._labels.classes
                if crops:
                    classes = replace(classes, masks=replace(classes.masks, describer="crop"))
                return await self._timed("masks", spent, lambda model: describe_masks(model, embedding, classes))
            case NamesTask():
                assert self._names_by is not None
                by_names = config_by_names(self._labels, self._names_by, task)
                return await self._named(spent, lambda model: label_embedding(model, embedding, by_names))
            case AlikeTask(examples=examples):
                concepts = config_by_examples(self._labels, task).concepts
                return await self._named(spent, lambda model: segment_alike(model, embedding, examples, concepts))

    async def _named(self, spent: Milliseconds, work: Callable[[PromptableBackbone], ImageLabels]) -> ImageLabels:
        try:
            return await self._timed("names", spent, work)
        except ConfigurationError as error:  # the model was loaded at the start: it is the names
            raise InputError(str(error)) from error

    async def _timed(self, stage: str, spent: Milliseconds, work: Callable[[PromptableBackbone], _R]) -> _R:
        def timed(model: PromptableBackbone) -> _R:
            with self._stage(stage, spent):
                return work(model)

        model = cast(PromptableBackbone, TakesTurns(self._backbone, self._turn))
        return await run_interruptibly(self._workers, model, timed)

    def _check_cost(self, embedding: ImageEmbedding) -> None:
        height, width = embedding.canvas.original_size_hw
        masks = self._labels.amg.points_per_side**2 * MASKS_PER_PROMPT
        cost, most = masks * height * width / 1e9, self._settings.requests.max_mask_gigapixels
        if cost > most:
            raise TooCostlyError(
                f"method amg would compute {masks:,} masks of {width} x {height} pixels, {cost:,.3g} gigapixels; the "
                f"service takes {most:g}; send at most {most / masks * 1e3:.1f} megapixels, or use method entities"
            )
