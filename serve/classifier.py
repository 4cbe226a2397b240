"""The classifier deployment: mask embeddings → named masks, by one of many class heads."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ray import serve

from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import classify_masks
from everymask.errors import EverymaskError
from everymask.records import ImageLabels
from serve.heads import HeadDirectory, HeadFile
from serve.metrics import StageTimer
from serve.settings import ServiceSettings

MAX_HEADS = 8
"""Class heads a replica keeps loaded; Serve fixes this when the module is read, so it is no setting."""


class Classifier:
    """Runs on the CPU; Serve sends requests for a class set to a replica that has its head."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._config = settings.classes
        self._heads = HeadDirectory(settings.heads_directory)
        self._stage = StageTimer()

    @serve.multiplexed(max_num_models_per_replica=MAX_HEADS)  # type: ignore[untyped-decorator]
    async def _head(self, model_id: str) -> ClassHead:
        name, _, version = model_id.rpartition("@")
        return await asyncio.to_thread(self._heads.load, HeadFile(name, version))

    async def classify(
        self, embeddings: MaskEmbeddings | EverymaskError, score_thresh: float | None
    ) -> ImageLabels | EverymaskError:
        """Name the masks with the head that the request's multiplexed model id names.

        A head that cannot be used is returned as its error; so is what the parts before found.
        """
        if isinstance(embeddings, EverymaskError):
            return embeddings
        config = self._config if score_thresh is None else replace(self._config, score_thresh=score_thresh)
        try:
            head = await self._head(serve.get_multiplexed_model_id())
            with self._stage("classify"):
                return await asyncio.to_thread(classify_masks, embeddings, head, config)
        except EverymaskError as error:
            return error
