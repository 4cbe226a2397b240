"""Parts of the OpenAPI document that FastAPI cannot infer: bodies of two content types, examples, error answers."""

from __future__ import annotations

from typing import Any

from serve.schema import ClassesBody, ErrorAnswer, ImageBody, PointsBody

DESCRIPTION = """Masks of everything in an image, of the classes you name, or of what you click on.

Send an image as multipart form field `image` or as JSON `image_base64`:

    curl -F image=@photo.jpg http://127.0.0.1:8000/v1/entities
    curl -F image=@photo.jpg -F 'point_coords=[[120, 80]]' http://127.0.0.1:8000/v1/points

Every answer holds an `image_id`; sent instead of the image, it skips encoding for as long as the embedding is kept.
Masks are COCO run-length encodings unless `mask_format` asks for `polygon` or `png`. Every error is
`{"error": {"code", "message", "request_id"}}`.
"""

EXAMPLE_IMAGE_BASE64 = (
    "iVBORw0KGgoAAAANSUhEUgAAADAAAAAgAgMAAAApuhOPAAAACVBMVEWPvNRbjDrRSVs42ly1AAAAaElEQVR42r3OsQ2DQABD0Xe5FChT0LMES9wU"
    "mYcRIlFmhFsiPSOwAIECkZNQCmhwYenLlmWu1KMHEbxCk3GzWm2DiuoHdWkURejQ5F1yECJ8Wp5/awNfuCcEprQlM2NZe88ZQjr/4CAsBw4OA/62"
    "x+IAAAAASUVORK5CYII="
)
"""A red disc on a green field, 48 x 32 pixels, so that pasted examples work."""

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in {
        401: "an API key is needed",
        404: "unknown image_id or class head",
        408: "the body did not arrive in time",
        409: "the class head does not fit the running model",
        413: "too many bytes or pixels",
        415: "neither a form nor JSON",
        422: "not an image, or a bad parameter",
        429: "busy; see Retry-After",
        500: "the service's fault",
        503: "a part of the service is down",
        504: "over the time limit, cancelled",
    }.items()
}
INFO_ERRORS = {status: ERRORS[status] for status in (401, 500, 503)}

_SHOWN_FIELDS: dict[str, Any] = {
    "image": {"type": "string", "format": "binary", "description": "the image file"},
    "image_id": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "of an earlier answer"},
}
_PROMPT_FIELDS: dict[str, Any] = {
    "point_coords": {"type": "string", "description": "JSON, (x, y) in pixels", "example": "[[24, 16]]"},
    "point_labels": {"type": "string", "description": "JSON, 1 on the object and 0 off it", "example": "[1]"},
    "box": {"type": "string", "description": "JSON, (x0, y0, x1, y1) in pixels", "example": "[14, 6, 34, 26]"},
    "multimask_output": {"type": "string", "enum": ["true", "false"], "description": "JSON"},
}

_EXAMPLE_FIELDS: dict[str, Any] = {
    "example_boxes": {"type": "string", "description": "JSON, boxes in pixels", "example": "[[14, 6, 34, 26]]"},
    "example_labels": {"type": "string", "description": "JSON, 1 meant and 0 not", "example": "[1]"},
}


def image_body() -> dict[str, Any]:
    """`requestBody` of an endpoint that takes an image."""
    example = {"image_base64": EXAMPLE_IMAGE_BASE64}
    return _request_body(ImageBody.model_json_schema(), _SHOWN_FIELDS, example, [])


def classes_body() -> dict[str, Any]:
    """`requestBody` of `/v1/classes`."""
    example = {"image_base64": EXAMPLE_IMAGE_BASE64}
    return _request_body(ClassesBody.model_json_schema(), _SHOWN_FIELDS | _EXAMPLE_FIELDS, example, [])


def points_body() -> dict[str, Any]:
    """`requestBody` of `/v1/points`."""
    example = {"image_base64": EXAMPLE_IMAGE_BASE64, "point_coords": [[24, 16]]}
    points_to = _any_of("point_coords", "box")
    return _request_body(PointsBody.model_json_schema(), _SHOWN_FIELDS | _PROMPT_FIELDS, example, [points_to])


def _request_body(
    json_schema: dict[str, Any], fields: dict[str, Any], example: dict[str, Any], also: list[dict[str, Any]]
) -> dict[str, Any]:
    form_schema = {
        "type": "object",
        "properties": fields,
        "additionalProperties": False,
        "allOf": [_any_of("image", "image_id"), *also],
    }
    json_schema = {**json_schema, "allOf": [_any_of("image_base64", "image_id"), *also]}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form_schema},
                "application/json": {"schema": json_schema, "example": example},
            },
        }
    }


def _any_of(*names: str) -> dict[str, Any]:
    return {"anyOf": [{"required": [name]} for name in names]}
