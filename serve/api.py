"""The ingress deployment: handlers parse HTTP, ask the graph, and format the answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

import everymask
from serve.adapters.label_studio import LabelStudio
from serve.adapters.x_anylabeling import XAnyLabeling
from serve.answers import classes_answer, labels_answer
from serve.auth import ApiKeys
from serve.errors import ServiceError
from serve.gate import DOCS_FILES, REQUEST_ID_HEADER, Gate, error_response
from serve.graph import Graph
from serve.labelling import ImageAnswer, Labelling, RegionSizes
from serve.metrics import StageTimer, server_timing
from serve.openapi import DESCRIPTION, ERRORS, INFO_ERRORS, classes_body, image_body, points_body
from serve.requests import (
    read_request,
    requested_examples,
    requested_image,
    requested_prompt,
    typed_names,
    validation_message,
)
from serve.schema import (
    ClassesAnswer,
    ClassesBody,
    HeadsAnswer,
    Health,
    ImageBody,
    LabelsAnswer,
    LimitsInfo,
    MaskFormat,
    Method,
    ModelInfo,
    ModelsAnswer,
    PointsBody,
    Readiness,
)
from serve.settings import HOME, ServiceSettings
from serve.tasks import ClickTask

logger = logging.getLogger("ray.serve")

_Body = TypeVar("_Body", bound=ImageBody)

NO_CHOICE = "give head, one of /v1/heads, or names, not both; in place of head, example_boxes may show what is meant"

_MaskFormatQuery = Annotated[MaskFormat, Query(description="how masks are written")]
_MinRegionAreaQuery = Annotated[
    int | None,
    Query(ge=0, description="connected parts and holes of masks under this many pixels go; else the service's own"),
]
_MaxRegionAreaQuery = Annotated[
    int | None, Query(ge=1, description="masks of more pixels are left out; else the service's own")
]


class Handlers:
    """One method per endpoint."""

    def __init__(self, labelling: Labelling, settings: ServiceSettings) -> None:
        self._labelling = labelling
        self._settings = settings
        self._stage = StageTimer()

    async def entities(
        self,
        request: Request,
        method: Annotated[Method, Query(description="E-SAM, or the plain automatic mask generator")] = "entities",
        min_region_area: _MinRegionAreaQuery = None,
        max_region_area: _MaxRegionAreaQuery = None,
        mask_format: _MaskFormatQuery = "rle",
    ) -> Response:
        """Masks of everything in an image. With method `entities` they do not overlap."""
        fields, data = await self._read(request, ImageBody)
        image = requested_image(fields, data, request.state.owner)
        sizes = RegionSizes(min_region_area, max_region_area)
        answer = await self._labelling.everything(image, method, sizes)
        return await self._respond(request, answer, labels_answer, mask_format=mask_format)

    async def points(self, request: Request, mask_format: _MaskFormatQuery = "rle") -> Response:
        """Masks of the one object that clicks and a box point at: candidates, best first, possibly overlapping."""
        fields, data = await self._read(request, PointsBody)
        image = requested_image(fields, data, request.state.owner)
        prompt = requested_prompt(fields, self._settings.requests.max_clicks)
        answer = await self._labelling.clicked(image, ClickTask(prompt, 3 if fields.multimask_output else 1))
        return await self._respond(request, answer, labels_answer, mask_format=mask_format)

    async def classes(
        self,
        request: Request,
        head: Annotated[str | None, Query(description="one of `/v1/heads`", max_length=200)] = None,
        names: Annotated[
            str | None,
            Query(
                description="or names, `cat,dog,background`, for SAM 3 to find or CLIP to compare; background is not "
                "labelled"
            ),
        ] = None,
        score_thresh: Annotated[
            float | None,
            Query(ge=0, le=1, description="least class probability of a mask; by default the class head's"),
        ] = None,
        min_region_area: _MinRegionAreaQuery = None,
        max_region_area: _MaxRegionAreaQuery = None,
        semantic_map: Annotated[bool, Query(description="whether to answer the map of classes too")] = True,
        mask_format: _MaskFormatQuery = "rle",
    ) -> Response:
        """Masks of a class head's classes, of names, or of what is like the objects in boxes, and the semantic map."""
        if head is not None and names is not None:
            raise ServiceError(422, "invalid_request", NO_CHOICE)
        fields, data = await self._read(request, ClassesBody)
        examples = requested_examples(fields)
        if (head is None and names is None and examples is None) or (head is not None and examples is not None):
            raise ServiceError(422, "invalid_request", NO_CHOICE)
        image = requested_image(fields, data, request.state.owner)
        sizes = RegionSizes(min_region_area, max_region_area)
        if examples is not None:
            called = () if names is None else typed_names(names)
            answer = await self._labelling.of_examples(image, examples, called, score_thresh, sizes)
        elif head is not None:
            answer = await self._labelling.of_classes(image, head, score_thresh, sizes)
        else:
            answer = await self._labelling.of_names(image, typed_names(names or ""), score_thresh, sizes)
        return await self._respond(
            request,
            answer,
            classes_answer,
            mask_format=mask_format,
            head=head,
            classes=answer.classes,
            with_map=semantic_map,
        )

    async def models(self) -> Response:
        """The running model, its methods and its limits."""
        running = await self._labelling.describe()
        limits, requests = self._settings.limits, self._settings.requests
        return _json(
            ModelsAnswer(
                models=[ModelInfo(name=running.name, weights_sha256=running.weights_sha256, device=running.device)],
                methods=["entities", "amg", "classes", "points"],
                names_by=self._settings.names_by,
                mask_formats=["rle", "polygon", "png"],
                limits=LimitsInfo(
                    max_bytes=limits.max_bytes,
                    max_pixels=limits.max_pixels,
                    max_clicks=requests.max_clicks,
                    time_limit_s=requests.time_limit_s,
                ),
            )
        )

    async def heads(self) -> Response:
        """The class heads now in the service's folders."""
        heads = await self._labelling.heads()
        return _json(HeadsAnswer(heads=heads, folders=list(self._settings.heads)))

    async def index(self) -> Response:
        """Redirect to the API's description. Relative, so that neither a prefix nor the request's host matters."""
        return RedirectResponse("docs")

    async def healthz(self) -> Response:
        """Whether this process is alive; `/readyz` tells about the models."""
        return _json(Health())

    async def readyz(self) -> Response:
        """200 if every part of the service is up, else 503."""
        states = await self._labelling.states()
        ready = bool(states) and all(state == "HEALTHY" for state in states.values())
        answer = Readiness(status="ready" if ready else "not ready", deployments=states)
        headers = None if ready else {"Retry-After": str(self._settings.requests.retry_after_s)}
        return _json(answer, 200 if ready else 503, headers)

    async def _read(self, request: Request, body: type[_Body]) -> tuple[_Body, bytes | None]:
        if "tiles" in request.query_params:
            raise ServiceError(
                422,
                "invalid_input",
                "tiles are for jobs and the library: a service encodes an image once; leave tiles out",
            )
        with self._stage("parse", request.state.spent):
            return await read_request(request, body, self._settings.limits)

    async def _respond(
        self, request: Request, answer: ImageAnswer, write: Callable[..., BaseModel], **options: Any
    ) -> Response:
        labels, cached = answer.outcome.result, answer.outcome.cached
        seconds = time.perf_counter() - request.state.started_at
        logger.info(
            "labelled",
            extra={
                "image_id": answer.image_id,
                "size_hw": list(labels.size_hw),
                "masks": len(labels.masks),
                "embedding_cache": "hit" if cached else "miss",
                "seconds": round(seconds, 4),
            },
        )

        def body() -> str:
            return write(
                labels=labels,
                image_id=answer.image_id,
                cached=cached,
                model=answer.model,
                seconds=seconds,
                **options,
            ).model_dump_json(exclude_none=True)

        spent = {**request.state.spent, **answer.outcome.spent}
        with self._stage("format", spent):
            content = await asyncio.to_thread(body)
        headers = {"Server-Timing": server_timing(spent)} if self._settings.server_timing else None
        return Response(content, headers=headers, media_type="application/json")


def create_app(graph: Graph, settings: ServiceSettings, keys: ApiKeys) -> ASGIApp:
    labelling = Labelling(graph, settings)
    handlers = Handlers(labelling, settings)
    app: FastAPI = FastAPIOffline(
        title="everymask",
        version=everymask.__version__,
        description=DESCRIPTION,
        static_url=DOCS_FILES,
        # Starlette would redirect `/v1/models/` to a host that the client names.
        redirect_slashes=False,
    )

    def route(path: str, endpoint: Any, model: type[BaseModel], **options: Any) -> None:
        method = "POST" if "openapi_extra" in options else "GET"
        app.add_api_route(path, endpoint, methods=[method], response_model=model, **options)

    route("/v1/entities", handlers.entities, LabelsAnswer, responses=ERRORS, openapi_extra=image_body())
    route("/v1/points", handlers.points, LabelsAnswer, responses=ERRORS, openapi_extra=points_body())
    route("/v1/classes", handlers.classes, ClassesAnswer, responses=ERRORS, openapi_extra=classes_body())
    route("/v1/models", handlers.models, ModelsAnswer, responses=INFO_ERRORS)
    route("/v1/heads", handlers.heads, HeadsAnswer, responses=INFO_ERRORS)
    route("/healthz", handlers.healthz, Health)
    app.add_api_route("/", handlers.index, include_in_schema=False)
    not_ready = {503: {"model": Readiness, "description": "a part is not up"}}
    route("/readyz", handlers.readyz, Readiness, responses=not_ready)

    if settings.label_studio:
        app.include_router(LabelStudio(labelling, settings).router())
    if settings.x_anylabeling:
        app.include_router(XAnyLabeling(labelling, settings).router())

    app.add_exception_handler(RequestValidationError, _bad_parameter)
    app.add_exception_handler(HTTPException, _bad_route)
    # JSON says the same as a form, in base64, which is a third longer.
    max_body_bytes = settings.limits.max_bytes * 4 // 3 + 2**20
    # Half of the requests that Serve passes on at a time: the other half is for those at work, and for answers.
    max_uploads = max(1, (settings.ingress.max_ongoing_requests - settings.requests.max_in_flight) // 2)
    app.add_middleware(
        Gate, keys=keys, limits=settings.requests, max_body_bytes=max_body_bytes, max_uploads=max_uploads
    )
    return app


class Api:
    """The ingress, without a model or GPU."""

    def __init__(
        self,
        settings: ServiceSettings,
        refiner: DeploymentHandle[Any],
        classifier: DeploymentHandle[Any],
    ) -> None:
        self._settings = settings
        path = settings.api_keys_file
        self._keys = ApiKeys.from_file(None if path is None else HOME / path)
        self._graph = Graph(serve.get_replica_context().app_name, refiner, classifier)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve when the replica is made."""
        return create_app(self._graph, self._settings, self._keys)


def _json(answer: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(answer.model_dump_json(exclude_none=True), status, headers, media_type="application/json")


async def _bad_parameter(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    answer = ServiceError(422, "invalid_request", validation_message(error.errors()))
    return error_response(answer, request.headers.get(REQUEST_ID_HEADER, ""))


async def _bad_route(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    message = f"{request.method} {request.url.path[:80]}: {error.detail}; the endpoints are described at /docs"
    code = codes.get(error.status_code, "bad_request")
    answer = ServiceError(error.status_code, code, message, dict(error.headers or {}))
    return error_response(answer, request.headers.get(REQUEST_ID_HEADER, ""))
