"""Label Studio's protocol for model servers ("ML backend"): health, setup and predict."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from everymask.errors import EverymaskError
from everymask.formats.label_studio import regions
from everymask.labelling.clicks import ClickPrompt
from everymask.labels.doubt import image_doubt
from everymask.records import ImageLabels
from serve.adapters.images import image_file
from serve.adapters.mask_control import MaskControl, read_mask_control
from serve.errors import ServiceError, to_service_error
from serve.labelling import ImageAnswer, Labelling
from serve.requests import invalid_request, read_json
from serve.settings import HOME, ServiceSettings
from serve.tasks import ClickTask, RequestImage

PREFIX = "/label-studio"
_MAX_TASKS = 100
_TOLERANCE_PX = 1.0
"""How far polygons may deviate from a mask's outline; exact ones have a corner at every pixel edge."""


class Value(BaseModel):
    """A prompt's position, in percent of the image."""

    x: float
    y: float
    width: float = 0.0
    height: float = 0.0
    keypointlabels: list[str] = Field(default_factory=list, max_length=100)
    rectanglelabels: list[str] = Field(default_factory=list, max_length=100)


class Drawn(BaseModel):
    """A keypoint or rectangle drawn by the annotator."""

    type: str
    value: Value
    is_positive: bool | int = True


class Context(BaseModel):
    """What an annotator drew with the smart tools."""

    result: list[Drawn] = Field(default_factory=list, max_length=1000)


class Params(BaseModel):
    """Parameters of a prediction."""

    context: Context | None = None


class Task(BaseModel):
    data: dict[str, Any]


class PredictBody(BaseModel):
    """A request for predictions."""

    tasks: list[Task] = Field(max_length=_MAX_TASKS)
    label_config: str = Field(max_length=100_000)
    params: Params | None = None


class LabelStudio:
    def __init__(self, labelling: Labelling, settings: ServiceSettings) -> None:
        self._labelling = labelling
        self._settings = settings
        self._images_root = None if settings.images_root is None else HOME / settings.images_root

    def router(self) -> APIRouter:
        router = APIRouter(prefix=PREFIX, include_in_schema=False)
        router.add_api_route("/health", self.health, methods=["GET"])
        router.add_api_route("/setup", self.setup, methods=["POST"])
        router.add_api_route("/predict", self.predict, methods=["POST"])
        return router

    async def health(self) -> dict[str, str]:
        return {"status": "UP", "model_class": "everymask"}

    async def setup(self) -> dict[str, str]:
        """Called when a project is connected. Nothing is kept: each prediction brings its own configuration."""
        return {"model_version": await self._version()}

    async def predict(self, request: Request) -> Response:
        """Masks for the annotator's clicks and box on the one task at hand; without those, masks of whole images.

        A task that cannot be labelled gets an `error` and no regions; if no task can, the answer is an error.
        """
        body = await read_json(request, PredictBody)
        control = read_mask_control(body.label_config)
        context = body.params.context if body.params is not None else None
        results: list[dict[str, Any]] = []
        failures: list[ServiceError] = []
        for task in body.tasks:
            try:
                results.append(await self._predict(task, control, context, request.state.owner))
            except (EverymaskError, ServiceError) as error:
                failures.append(to_service_error(error, self._settings.requests.retry_after_s))
                results.append({"score": 0.0, "result": [], "error": failures[-1].message})
        if failures and len(failures) == len(results):
            raise failures[0]
        version = await self._version()
        answer = Predictions(results=[{"model_version": version, **result} for result in results])
        return Response(answer.model_dump_json(), media_type="application/json")

    async def _predict(self, task: Task, control: MaskControl, context: Context | None, owner: str) -> dict[str, Any]:
        address = task.data.get(control.image_field)
        if not isinstance(address, str):
            raise invalid_request(f"the task's data has no image under {control.image_field[:80]!r}")
        data = await asyncio.to_thread(image_file, address, self._images_root, self._settings.limits)
        image = RequestImage.from_file(owner, data)
        if context is not None and context.result:
            answer, labels = await self._clicked(image, control, context)
        else:
            answer, labels = await self._everything(image, control)
        return await asyncio.to_thread(_prediction, answer.outcome.result, labels, control)

    async def _clicked(
        self, image: RequestImage, control: MaskControl, context: Context
    ) -> tuple[ImageAnswer, list[str]]:
        prompt, label = _prompt(context, self._settings.requests.max_clicks)
        answer = await self._labelling.clicked(image, ClickTask(prompt, max_masks=1, in_shares=True))
        return answer, [label if label in control.labels else control.labels[0]] * len(answer.outcome.result.masks)

    async def _everything(self, image: RequestImage, control: MaskControl) -> tuple[ImageAnswer, list[str]]:
        head = control.head or await self._head_of(control.labels)
        if head is None:
            answer = await self._labelling.everything(image, "entities")
            return answer, [control.labels[0]] * len(answer.outcome.result.masks)
        answer = await self._labelling.of_classes(image, head)
        return answer, [mask.class_name or "" for mask in answer.outcome.result.masks]

    async def _head_of(self, labels: tuple[str, ...]) -> str | None:
        """The first class head that knows every label, or None."""
        for head in await self._labelling.heads():
            if head.usable and set(labels) <= set(head.classes):
                return head.name
        return None

    async def _version(self) -> str:
        running = await self._labelling.describe()
        return f"{running.name} {running.weights_sha256[:12]}"


class Predictions(BaseModel):
    """Label Studio's answer format: one prediction per task, in order."""

    results: list[dict[str, Any]]


def _prompt(context: Context, max_clicks: int) -> tuple[ClickPrompt, str]:
    """The annotator's keypoints and last rectangle, in shares of the image, and the label chosen for them."""
    points: list[tuple[float, float]] = []
    signs: list[int] = []
    box = None
    label = ""
    for drawn in context.result:
        value = drawn.value
        if drawn.type == "keypointlabels":
            points.append((value.x / 100, value.y / 100))
            signs.append(int(bool(drawn.is_positive)))
            label = next(iter(value.keypointlabels), label)
        elif drawn.type == "rectanglelabels":
            # Drawn up to the border, a rectangle may end behind it by a rounding error.
            right, bottom = min(value.x + value.width, 100.0), min(value.y + value.height, 100.0)
            box = (value.x / 100, value.y / 100, right / 100, bottom / 100)
            label = next(iter(value.rectanglelabels), label)
    if len(points) > max_clicks:
        raise invalid_request(f"the prompt has {len(points):,} keypoints; at most {max_clicks} are taken")
    return ClickPrompt(tuple(points), tuple(signs), box), label


def _prediction(labels: ImageLabels, names: list[str], control: MaskControl) -> dict[str, Any]:
    found = [
        {**region, "from_name": control.from_name, "to_name": control.to_name}
        for mask, name in zip(labels.masks, names, strict=True)
        if name in control.labels
        for region in regions(replace(mask, class_name=name), control.kind, _TOLERANCE_PX)
    ]
    # Label Studio can sort tasks by this; an export says the same.
    return {"score": 1 - image_doubt(labels), "result": found}
