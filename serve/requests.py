"""HTTP bodies → requests to the graph; multipart forms and JSON are equivalent."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from everymask.classes.examples import ExamplePrompt
from everymask.files.json_text import parse_json
from everymask.images.decoding import ImageLimits
from everymask.labelling.clicks import ClickPrompt
from serve.errors import ServiceError
from serve.schema import ClassesBody, ImageBody, Prompt
from serve.tasks import RequestImage

_Body = TypeVar("_Body", bound=ImageBody)
_Json = TypeVar("_Json", bound=BaseModel)

FORM = "multipart/form-data"
JSON = "application/json"
_TEXT_FIELDS = ("image_id",)
"""Form fields with plain text; the others hold JSON."""
_MAX_FIELD_BYTES = 64 * 2**10
_MAX_JSON_VALUES = 20_000
"""Far more than a prompt needs, but cheap to read."""
_NAME_LENGTH = 80
"""Maximum characters of a client's name that an error repeats."""


def typed_names(text: str) -> tuple[str, ...]:
    """Names as a client types them, `cat, dog`."""
    return tuple(name.strip() for name in text.split(","))


async def read_request(request: Request, body: type[_Body], limits: ImageLimits) -> tuple[_Body, bytes | None]:
    """Parse a form or a JSON body; returns the fields, and the image file if one was sent.

    Raises:
        ServiceError: 415 for another content type, 422 for an invalid body.
        ImageTooLargeError: the image has too many bytes.
        InputError: the image has none.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    data: bytes | None
    if content_type == FORM:
        fields, data = await _read_form(request, body)
    elif content_type == JSON:
        content = await request.body()
        check_json_values(content)
        fields, data = await asyncio.to_thread(_parse_json, content, body)
    elif not content_type and not await request.body():
        raise invalid_request("the request has no body; send an image as form field `image` or as JSON `image_base64`")
    else:
        raise ServiceError(
            415,
            "unsupported_media_type",
            f"the content type {content_type[:_NAME_LENGTH]!r} is not read here; use {FORM} or {JSON}",
        )
    if data is not None:
        limits.check_bytes(len(data))
    return fields, data


def check_json_values(content: bytes, limit: int = _MAX_JSON_VALUES) -> None:
    """Refuse JSON with more values than any request needs, before parsing; raises ServiceError 422.

    Each value of a list or object follows a bracket or comma, and base64 has neither, however long it is.
    """
    if sum(content.count(mark) for mark in (b"[", b"{", b",")) > limit:
        raise invalid_request(f"the JSON body lists more than {limit:,} values")


async def read_json(request: Request, body: type[_Json]) -> _Json:
    """Parse a JSON body of a labelling tool's protocol; ServiceError 422 if it is invalid."""
    content = await request.body()
    check_json_values(content)
    try:
        return await asyncio.to_thread(body.model_validate_json, content)
    except ValidationError as error:
        raise invalid_request(validation_message(error.errors())) from error


def requested_image(fields: ImageBody, data: bytes | None, owner: str) -> RequestImage:
    """The image of a request, and its owner; ServiceError 422 if neither an image nor an id was sent."""
    if data is not None:
        return RequestImage.from_file(owner, data)
    if fields.image_id is not None:
        return RequestImage(owner, fields.image_id, None)
    raise invalid_request(
        "there is no image in the request; send form field `image`, JSON `image_base64`, or an `image_id`"
    )


def requested_prompt(fields: Prompt, max_clicks: int) -> ClickPrompt:
    """A request's prompt.

    Raises:
        ServiceError: 422, too many clicks.
        InputError: the prompt points at nothing, or its parts contradict each other.
    """
    if len(fields.point_coords) > max_clicks:
        raise invalid_request(f"the prompt has {len(fields.point_coords):,} clicks; at most {max_clicks} are taken")
    labels = fields.point_labels if fields.point_labels is not None else [1] * len(fields.point_coords)
    box = fields.box
    return ClickPrompt(
        tuple((x, y) for x, y in fields.point_coords),
        tuple(labels),
        None if box is None else (box[0], box[1], box[2], box[3]),
    )


def requested_examples(fields: ClassesBody) -> ExamplePrompt | None:
    """A request's boxes as examples; None if there are none.

    Raises:
        ServiceError: 422, there are labels of no boxes.
        InputError: the boxes contradict themselves.
    """
    if fields.example_boxes is None:
        if fields.example_labels is not None:
            raise invalid_request("example_labels are of example_boxes; send both, or neither")
        return None
    labels = fields.example_labels if fields.example_labels is not None else [1] * len(fields.example_boxes)
    boxes = tuple((box[0], box[1], box[2], box[3]) for box in fields.example_boxes)
    return ExamplePrompt(boxes, tuple(map(bool, labels)))


def validation_message(errors: Any) -> str:
    """Pydantic's findings as one sentence, without repeating what the client sent."""
    parts = []
    for error in errors[:5]:
        location = ".".join(str(part) for part in error["loc"] if part not in ("query", "body", "path"))
        parts.append(f"{location[:_NAME_LENGTH] or 'the body'}: {error['msg']}")
    return "; ".join(parts)


async def _read_form(request: Request, body: type[_Body]) -> tuple[_Body, bytes | None]:
    try:
        form = await request.form(max_files=2, max_fields=8, max_part_size=_MAX_FIELD_BYTES)
    except HTTPException as error:
        raise invalid_request(f"the form cannot be read: {error.detail}") from error
    values: dict[str, Any] = {}
    data: bytes | None = None
    for name, value in form.multi_items():
        if name == "image":
            if not isinstance(value, UploadFile):
                raise invalid_request("form field `image` is text; send the image as a file")
            if data is not None:
                raise invalid_request("the form holds two images; send one a request")
            data = await value.read()
        elif isinstance(value, UploadFile):
            raise invalid_request(f"form field {name[:_NAME_LENGTH]!r} is a file; only `image` may be one")
        elif name in values:
            raise invalid_request(f"form field {name[:_NAME_LENGTH]!r} is there twice")
        else:
            values[name] = value if name in _TEXT_FIELDS else _from_json(name, value)
    return _validate(body, values), data


def _from_json(name: str, text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        raise invalid_request(f"form field {name[:_NAME_LENGTH]!r} must hold JSON, such as [[120, 80]]") from None


def _parse_json(content: bytes, body: type[_Body]) -> tuple[_Body, bytes | None]:
    try:
        fields = body.model_validate_json(content)
    except ValidationError as error:
        raise invalid_request(validation_message(error.errors())) from error
    if fields.image_base64 is None:
        return fields, None
    try:
        return fields, base64.b64decode(fields.image_base64, validate=True)
    except (binascii.Error, ValueError):
        raise invalid_request("image_base64 is not base64") from None


def _validate(body: type[_Body], values: dict[str, Any]) -> _Body:
    if "image_base64" in values:
        raise invalid_request("image_base64 belongs into a JSON body; in a form, send the file as `image`")
    try:
        return body.model_validate(values)
    except ValidationError as error:
        raise invalid_request(validation_message(error.errors())) from error


def invalid_request(message: str) -> ServiceError:
    return ServiceError(422, "invalid_request", message)
