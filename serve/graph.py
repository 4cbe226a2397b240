"""The ingress' view of the other deployments: calls, what flows between them, and cancellation."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ray import serve
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from ray.serve.schema import ApplicationStatus

from everymask.errors import EverymaskError
from everymask.records import ImageLabels
from serve.errors import ImageUnknownError
from serve.heads import HeadFile
from serve.refiner import ClickTask, LabelTask, MaskTask, ModelDescription, Task

_Finish = Callable[[DeploymentResponse[Any], Sequence[DeploymentResponse[Any]]], Awaitable[Any]]
"""Awaits the refiner's response, or passes it on; knows what else to cancel."""


@dataclass(frozen=True)
class RequestImage:
    """What a request is about: an image file, or the id of one that was sent before.

    Attributes:
        image_id: hex sha256 of the file.
        data: the file; None when only the id was sent.
        reuse: try the kept embedding first.
    """

    image_id: str
    data: bytes | None
    reuse: bool

    @classmethod
    def from_file(cls, data: bytes, reuse: bool) -> RequestImage:
        """Of an image that came with the request. Its id is its content's, whatever id the client sent along."""
        return cls(hashlib.sha256(data).hexdigest(), data, reuse)


@dataclass(frozen=True)
class GraphAnswer:
    """Labels of an image, and whether its embedding was reused."""

    labels: ImageLabels
    cached: bool


class Graph(Protocol):
    """What the API needs of whatever does the work."""

    async def label(self, image: RequestImage, task: LabelTask | ClickTask) -> GraphAnswer:
        """Entities, or the masks of one prompt."""
        ...

    async def classify(self, image: RequestImage, head: HeadFile, score_thresh: float | None) -> GraphAnswer:
        """Masks of the classes that a head knows."""
        ...

    async def describe(self) -> ModelDescription:
        """The running model."""
        ...

    async def states(self) -> dict[str, str]:
        """State of each part, `HEALTHY` when it answers."""
        ...


class ServeGraph:
    """The deployments, through their handles."""

    def __init__(
        self,
        app_name: str,
        encoder: DeploymentHandle[Any],
        refiner: DeploymentHandle[Any],
        classifier: DeploymentHandle[Any],
    ) -> None:
        self._app_name = app_name
        self._encoder = encoder
        self._refiner = refiner
        self._classifier = classifier
        self._description: ModelDescription | None = None

    async def label(self, image: RequestImage, task: LabelTask | ClickTask) -> GraphAnswer:
        """See `Graph`."""
        return await self._with_embedding(image, task, _result)

    async def classify(self, image: RequestImage, head: HeadFile, score_thresh: float | None) -> GraphAnswer:
        """See `Graph`."""
        classifier = self._classifier.options(multiplexed_model_id=head.model_id)

        async def classified(masks: DeploymentResponse[Any], upstream: Sequence[DeploymentResponse[Any]]) -> Any:
            return await _result(_start(classifier.classify, masks, score_thresh), [masks, *upstream])

        return await self._with_embedding(image, MaskTask(), classified)

    async def describe(self) -> ModelDescription:
        """See `Graph`."""
        if self._description is None:
            self._description = await _start(self._refiner.describe)
        return self._description

    async def states(self) -> dict[str, str]:
        """See `Graph`."""
        status = await asyncio.to_thread(serve.status)
        application = status.applications.get(self._app_name)
        if application is None:
            return {self._app_name: "NOT_STARTED"}
        states = {name: str(part.status.value) for name, part in application.deployments.items()}
        if application.status == ApplicationStatus.DEPLOY_FAILED:
            states[self._app_name] = str(application.status.value)
        return states

    async def _with_embedding(self, image: RequestImage, task: Task, finish: _Finish) -> GraphAnswer:
        # The id picks the replica (consistent hashing), so that a click finds the embedding where it was left.
        refiner = self._refiner.options(session_id=image.image_id)
        if image.reuse:
            try:
                return GraphAnswer(await finish(_start(refiner.refine_kept, image.image_id, task), []), cached=True)
            except ImageUnknownError:
                if image.data is None:
                    raise
        assert image.data is not None
        # Passed on un-awaited, the embedding goes from replica to replica and never through here.
        embedding = _start(self._encoder.embed, image.data)
        masks = _start(refiner.refine, image.image_id, task, embedding)
        return GraphAnswer(await finish(masks, [embedding]), cached=False)


def _start(method: DeploymentHandle[Any], *args: Any) -> DeploymentResponse[Any]:
    response = method.remote(*args)
    assert isinstance(response, DeploymentResponse)
    return response


async def _result(response: DeploymentResponse[Any], upstream: Sequence[DeploymentResponse[Any]]) -> Any:
    """Await a response and raise the error it may hold; when this request ends early, end all it had started."""
    try:
        result = await response
    except BaseException:
        for started in (response, *upstream):
            started.cancel()  # type: ignore[no-untyped-call]
        raise
    if isinstance(result, EverymaskError):
        raise result
    return result
