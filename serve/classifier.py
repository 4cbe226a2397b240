"""The classifier deployment: mask embeddings → named masks, by one of many class heads."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ray import serve

from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import classify_masks
from everymask.errors import EverymaskError
from serve.head_files import HeadFolders
from serve.metrics import StageTimer
from serve.settings import ServiceSettings
from serve.tasks import Labelled, Outcome

MAX_HEADS = 8
"""Class heads that a replica keeps loaded; a constant, because Serve fixes it when the module is read."""


class Classifier:
    """Runs on the CPU; Serve sends requests for a head to a replica that has loaded it."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._config = settings.labels.classes
        self._heads = HeadFolders(settings.head_folders)
        self._stage = StageTimer()

    @serve.multiplexed(max_num_models_per_replica=MAX_HEADS)  # type: ignore[untyped-decorator]
    async def _head(self, model_id: str) -> ClassHead:
        return await self.load(model_id)

    async def load(self, model_id: str) -> ClassHead:
        """Read the head that `HeadFile.model_id` names; ConfigurationError if it is gone, damaged, or no class head."""
        return await asyncio.to_thread(self._heads.load, model_id)

    async def classify(
        self, masks: Outcome[MaskEmbeddings] | EverymaskError, model_id: str, score_thresh: float | None
    ) -> Labelled:
        """Name the masks with a head; Serve chose this replica by `model_id`.

        Errors of the head are returned; so are errors of the parts before.
        """
        if isinstance(masks, EverymaskError):
            return masks
        config = self._config if score_thresh is None else replace(self._config, score_thresh=score_thresh)
        spent = dict(masks.spent)
        try:
            head = await self._head(model_id)
            with self._stage("classify", spent):
                labels = await asyncio.to_thread(classify_masks, masks.result, head, config)
        except EverymaskError as error:
            return error
        return Outcome(labels, masks.cached, spent)
