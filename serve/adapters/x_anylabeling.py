"""X-AnyLabeling's protocol for remote servers: the list of models, and shapes of one image."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from everymask.formats.outlines import simple_polygons
from everymask.formats.x_anylabeling import x_anylabeling_shapes
from everymask.labelling.clicks import ClickPrompt
from everymask.records import LabelledMask
from serve.adapters.images import image_file
from serve.errors import ServiceError
from serve.labelling import ImageAnswer, Labelling
from serve.requests import invalid_request, read_json, typed_names
from serve.schema import Method
from serve.settings import ServiceSettings
from serve.tasks import ClickTask, RequestImage

PREFIX = "/x-anylabeling"
CLICKS = "points"
CLASSES = "classes/"
"""Prefix of a class head's name."""
NAMES = "names"
"""The model that compares names typed by the user, through CLIP."""
UNNAMED = "AUTOLABEL_OBJECT"
"""X-AnyLabeling asks its user for the label of such a shape."""

_CLICK_WIDGETS = ["button_add_point", "button_remove_point", "button_add_rect", "button_clear", "button_finish_object"]
_RUN_WIDGETS = ["button_run", "toggle_preserve_existing_annotations"]
_NAMES_WIDGETS = ["edit_text", "button_send", "input_conf", "edit_conf", "toggle_preserve_existing_annotations"]
_FINENESS_WIDGETS = ["mask_fineness_slider", "mask_fineness_value_label"]


class Mark(BaseModel):
    """A click (x, y) or a rectangle (x0, y0, x1, y1), in pixels."""

    type: Literal["point", "rectangle"]
    data: list[float] = Field(max_length=4)
    label: int = 1


class Params(BaseModel):
    """The user's settings."""

    conf_threshold: float = Field(default=0.0, ge=0, le=1)
    epsilon_factor: float = Field(default=0.001, ge=0, le=1)
    text_prompt: str = Field(default="", max_length=10_000)
    marks: list[Mark] = Field(default_factory=list, max_length=1000)
    filter_classes: list[str] | None = Field(default=None, max_length=10_000)


class PredictBody(BaseModel):
    """A request for shapes."""

    model: str = Field(max_length=200)
    image: str
    params: Params = Field(default_factory=Params)


class XAnyLabeling:
    def __init__(self, labelling: Labelling, settings: ServiceSettings) -> None:
        self._labelling = labelling
        self._settings = settings

    def router(self) -> APIRouter:
        router = APIRouter(prefix=PREFIX, include_in_schema=False)
        router.add_api_route("/v1/models", self.models, methods=["GET"])
        router.add_api_route("/v1/predict", self.predict, methods=["POST"])
        return router

    async def models(self) -> dict[str, Any]:
        """Clicks, entities, SAM's automatic masks, names if they are answered, every class head that can be used."""
        running = await self._labelling.describe()
        models = {
            CLICKS: _model(f"everymask {running.name}: clicks", [*_CLICK_WIDGETS, *_FINENESS_WIDGETS], None),
            "entities": _model(f"everymask {running.name}: entities", [*_RUN_WIDGETS, *_FINENESS_WIDGETS], "default"),
            "amg": _model(f"everymask {running.name}: all masks", [*_RUN_WIDGETS, *_FINENESS_WIDGETS], "default"),
        }
        if self._settings.names_by:
            title = f"everymask {running.name}: names, such as cat.dog.background"
            models[NAMES] = _model(title, [*_NAMES_WIDGETS, *_FINENESS_WIDGETS], "text_prompt")
        for head in await self._labelling.heads():
            if head.usable:
                widgets = [*_RUN_WIDGETS, "button_classes_filter", "input_conf", "edit_conf", *_FINENESS_WIDGETS]
                title = f"everymask {running.name}: {head.name}"
                models[CLASSES + head.name] = _model(title, widgets, "default", head.classes)
        return {"data": models}

    async def predict(self, request: Request) -> Response:
        body = await read_json(request, PredictBody)
        if not body.image.startswith("data:"):
            raise invalid_request("the image must be sent along, as a data: URI")
        data = await asyncio.to_thread(image_file, body.image, None, self._settings.limits)
        answer = await self._ask(body, RequestImage.from_file(request.state.owner, data))
        shapes = await asyncio.to_thread(_shapes, answer, body)
        # Without `replace`, the user's own setting decides whether shapes that are there stay.
        found = Shapes(data={"shapes": shapes, "description": "", "replace": False if body.model == CLICKS else None})
        return Response(found.model_dump_json(), media_type="application/json")

    async def _ask(self, body: PredictBody, image: RequestImage) -> ImageAnswer:
        methods: dict[str, Method] = {"entities": "entities", "amg": "amg"}
        if body.model == CLICKS:
            prompt = _prompt(body.params.marks, self._settings.requests.max_clicks)
            return await self._labelling.clicked(image, ClickTask(prompt, max_masks=1))
        if body.model in methods:
            return await self._labelling.everything(image, methods[body.model])
        threshold = body.params.conf_threshold or None
        if body.model == NAMES:
            # Its other models with a text field part names by full stops.
            names = typed_names(body.params.text_prompt.rstrip(".").replace(".", ","))
            return await self._labelling.of_names(image, names, threshold)
        if body.model.startswith(CLASSES):
            return await self._labelling.of_classes(image, body.model.removeprefix(CLASSES), threshold)
        raise ServiceError(404, "not_found", f"there is no model {body.model[:80]!r}; {PREFIX}/v1/models names them")


class Shapes(BaseModel):
    """X-AnyLabeling's answer format."""

    data: dict[str, Any]


def _model(title: str, widgets: list[str], batch_mode: str | None, classes: list[str] | None = None) -> dict[str, Any]:
    return {
        "display_name": title,
        "widgets": [{"name": name} for name in widgets],
        "batch_processing_mode": batch_mode,
        "classes": classes or [],
        "filter_classes": [],
        "available_tasks": [],
    }


def _prompt(marks: list[Mark], max_clicks: int) -> ClickPrompt:
    """All points, and the last rectangle."""
    points: list[tuple[float, float]] = []
    signs: list[int] = []
    box = None
    for mark in marks:
        if len(mark.data) != (2 if mark.type == "point" else 4):
            raise invalid_request(f"a mark of type {mark.type} has {len(mark.data)} numbers")
        if mark.type == "point":
            points.append((mark.data[0], mark.data[1]))
            signs.append(1 if mark.label == 1 else 0)
        else:
            # A rectangle may have been drawn from any of its corners.
            x0, x1 = sorted((mark.data[0], mark.data[2]))
            y0, y1 = sorted((mark.data[1], mark.data[3]))
            box = (x0, y0, x1, y1)
    if len(points) > max_clicks:
        raise invalid_request(f"the prompt has {len(points):,} points; at most {max_clicks} are taken")
    return ClickPrompt(tuple(points), tuple(signs), box)


def _shapes(answer: ImageAnswer, body: PredictBody) -> list[dict[str, Any]]:
    wanted = set(body.params.filter_classes or ())
    return [
        shape
        for mask in answer.outcome.result.masks
        if not wanted or mask.class_name in wanted
        for shape in _polygons(mask, body)
    ]


def _polygons(mask: LabelledMask, body: PredictBody) -> list[dict[str, Any]]:
    """A mask as polygons, which have neither parts nor holes there; several share a `group_id`."""
    x0, y0, x1, y1 = mask.box_xyxy
    # The user's factor is one of the outline's length; the box's is near it, and does not hang on ragged borders.
    tolerance_px = body.params.epsilon_factor * 2 * (x1 - x0 + y1 - y0)
    named = replace(mask, class_name=UNNAMED) if body.model == CLICKS else mask
    # Objects that were clicked one after the other must not share a group, so it follows from the mask itself.
    group_id = int((mask.mask_id or "0")[:7], 16)
    polygons = [polygon.tolist() for polygon in simple_polygons(named, tolerance_px)]
    shapes = x_anylabeling_shapes(named, group_id, polygons)
    alone = {"group_id": None} if len(shapes) == 1 else {}
    # The client drops the keys that it does not know, attributes it keeps.
    return [{**shape, **alone, "attributes": {"everymask_id": mask.mask_id}} for shape in shapes]
