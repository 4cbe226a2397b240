"""The ingress's view of the other deployments: calls, the data between them, and cancellation."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from ray.serve.schema import ApplicationStatus

from everymask.errors import EverymaskError
from everymask.records import ImageLabels
from serve.calls import result, start
from serve.head_files import HeadFile
from serve.tasks import (
    AlikeTask,
    ClickTask,
    EverythingTask,
    Labelled,
    MaskTask,
    ModelDescription,
    NamesTask,
    Outcome,
    RequestImage,
    Task,
)


class Graph:
    def __init__(self, app_name: str, refiner: DeploymentHandle[Any], classifier: DeploymentHandle[Any]) -> None:
        self._app_name = app_name
        self._refiner = refiner
        self._classifier = classifier
        self._description: ModelDescription | None = None

    async def label(
        self, image: RequestImage, task: EverythingTask | ClickTask | NamesTask | AlikeTask
    ) -> Outcome[ImageLabels]:
        """Entities, the masks of one prompt, or masks that resemble names or examples."""
        return await _outcome(self._refine(image, task))

    async def classify(
        self, image: RequestImage, head: HeadFile, reads_crops: bool, score_thresh: float | None
    ) -> Outcome[ImageLabels]:
        classifier = self._classifier.options(multiplexed_model_id=head.model_id)
        masks = self._refine(image, MaskTask(reads_crops))
        # Passed on un-awaited, the masks go from replica to replica and never through here.
        return await _outcome(start(classifier.classify, masks, head.model_id, score_thresh), masks)

    def _refine(self, image: RequestImage, task: Task) -> DeploymentResponse[Any]:
        # The key picks the replica (consistent hashing), so that a click finds what was kept of its image.
        return start(self._refiner.options(session_id=image.key).refine, image, task)

    async def describe(self) -> ModelDescription:
        if self._description is None:
            self._description = await start(self._refiner.describe)
        return self._description

    async def states(self) -> dict[str, str]:
        """State of each part; `HEALTHY` if it answers."""
        status = await asyncio.to_thread(serve.status)
        application = status.applications.get(self._app_name)
        if application is None:
            return {self._app_name: "NOT_STARTED"}
        states = {name: str(part.status.value) for name, part in application.deployments.items()}
        if application.status == ApplicationStatus.DEPLOY_FAILED:
            states[self._app_name] = str(application.status.value)
        return states


async def _outcome(response: DeploymentResponse[Any], *upstream: DeploymentResponse[Any]) -> Outcome[ImageLabels]:
    """The answer; a returned error is raised."""
    began = time.perf_counter()
    labelled: Labelled = await result(response, *upstream)
    if isinstance(labelled, EverymaskError):
        raise labelled
    hops = (time.perf_counter() - began) * 1000 - sum(labelled.spent.values())
    return Outcome(labelled.result, labelled.cached, {**labelled.spent, "graph_hops": hops})
