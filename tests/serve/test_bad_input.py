"""What must be refused, with the right status and a sentence that names the problem, and leave the service well."""

from __future__ import annotations

import io
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.serve.pictures import encoded, picture, picture_file
from tests.serve.running_service import API_KEY, RunningService

pytestmark = pytest.mark.serve

GOOD = picture_file(0, (32, 24))
UNKNOWN_ID = "0" * 64


@pytest.fixture(scope="module")
def http(service: RunningService) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(autouse=True)
def _still_well(http: httpx.Client) -> Iterator[None]:
    yield
    assert http.get("/readyz").status_code == 200
    assert http.post("/v1/points", files={"image": GOOD}, data={"point_coords": "[[9, 9]]"}).status_code == 200


def png_bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises far more pixels than the file could hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def refused(response: httpx.Response, status: int, code: str, *words: str) -> None:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    assert error["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in error["message"]
    for word in words:
        assert word in error["message"]


@pytest.mark.parametrize(
    ("file", "status", "code", "word"),
    [
        (b"", 422, "invalid_input", "empty"),
        (b"plain text, no image", 422, "invalid_input", "not an image"),
        (encoded(picture(0), "JPEG")[:300], 422, "invalid_input", "truncated"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, 422, "invalid_input", ""),
        (png_bomb(40_000, 40_000), 413, "image_too_large", "40000 x 40000"),
        (encoded(Image.new("RGB", (2000, 1001))), 413, "image_too_large", "2000 x 1001"),
        (b"\0" * 2_000_001, 413, "image_too_large", "2,000,001 bytes"),
        (b"\0" * 8_000_000, 413, "body_too_large", "bytes"),
    ],
    ids=["empty", "text", "truncated", "garbage", "bomb", "pixels", "bytes", "body"],
)
@pytest.mark.parametrize("path", ["/v1/entities", "/v1/points", "/v1/classes?head=discs"])
def test_files_that_are_no_image_for_us(
    http: httpx.Client, path: str, file: bytes, status: int, code: str, word: str
) -> None:
    fields = {"point_coords": "[[1, 1]]"} if "points" in path else {}
    refused(http.post(path, files={"image": file}, data=fields), status, code, word)


@pytest.mark.parametrize(
    ("request_body", "status", "code", "word"),
    [
        ({}, 422, "invalid_request", "no body"),
        ({"content": b"", "headers": {"content-type": "application/json"}}, 422, "invalid_request", ""),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 422, "invalid_request", "JSON"),
        ({"json": []}, 422, "invalid_request", ""),
        ({"json": {}}, 422, "invalid_request", "no image"),
        ({"json": {"image_base64": "%%%"}}, 422, "invalid_request", "base64"),
        ({"json": {"image_base64": ""}}, 422, "invalid_input", "empty"),
        ({"json": {"image_id": "short"}}, 422, "invalid_request", "image_id"),
        ({"json": {"image_id": UNKNOWN_ID}}, 404, "image_unknown", UNKNOWN_ID),
        ({"json": {"image_url": "http://127.0.0.1/"}}, 422, "invalid_request", "image_url"),
        ({"data": {"image": "text"}, "files": {"x": GOOD}}, 422, "invalid_request", "`image`"),
        ({"files": [("image", GOOD), ("image", GOOD)]}, 422, "invalid_request", "two images"),
        ({"files": [("image", GOOD)] * 3}, 422, "invalid_request", "files"),
        ({"files": {"image": GOOD}, "data": {"colour": "1"}}, 422, "invalid_request", "colour"),
        ({"data": {"image_id": UNKNOWN_ID}}, 415, "unsupported_media_type", "multipart/form-data"),
        ({"content": GOOD, "headers": {"content-type": "image/png"}}, 415, "unsupported_media_type", "image/png"),
        (
            {"content": b"broken", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            422,
            "invalid_request",
            "",
        ),
        ({"content": b"broken", "headers": {"content-type": "multipart/form-data"}}, 422, "invalid_request", "form"),
    ],
)
def test_bodies_that_are_not_as_they_should_be(
    http: httpx.Client, request_body: dict[str, Any], status: int, code: str, word: str
) -> None:
    refused(http.post("/v1/entities", **request_body), status, code, word)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({}, ["points at nothing"]),
        ({"point_coords": []}, ["points at nothing"]),
        ({"point_coords": [[5, 5]], "point_labels": [0]}, ["points at nothing"]),
        ({"point_coords": [[5, 5]] * 100}, ["100 clicks", "64"]),
        ({"point_coords": [[5, 5]] * 2_000}, ["point_coords", "1000"]),
        ({"point_coords": [[5, 5]] * 10_000}, ["20,000 values"]),
        ({"point_coords": [[32, 5]]}, ["(32, 5)", "32 x 24"]),
        ({"point_coords": [[5, -1]]}, ["(5, -1)"]),
        ({"point_coords": [[5]]}, ["point_coords"]),
        ({"point_coords": [["x", 5]]}, ["point_coords"]),
        ({"point_coords": "nonsense"}, ["point_coords"]),
        ({"point_coords": [[5, 5]], "point_labels": [2]}, ["point_labels"]),
        ({"point_coords": [[5, 5]], "point_labels": [1, 1]}, ["1 point_coords", "2 point_labels"]),
        ({"box": [0, 0, 99, 10]}, ["box", "32 x 24"]),
        ({"box": [9, 9, 2, 2]}, ["empty"]),
        ({"box": [1, 2, 3]}, ["box"]),
    ],
)
def test_prompts_that_mean_nothing_here(http: httpx.Client, prompt: dict[str, Any], words: list[str]) -> None:
    image_id = http.post("/v1/points", files={"image": GOOD}, data={"point_coords": "[[9, 9]]"}).json()["image_id"]
    response = http.post("/v1/points", json={**prompt, "image_id": image_id})
    assert response.status_code == 422, response.text
    assert all(word in response.json()["error"]["message"] for word in words), response.text


def test_numbers_json_has_no_name_for_are_refused(http: httpx.Client) -> None:
    for coordinate in ("NaN", "Infinity", "1e999"):
        response = http.post("/v1/points", files={"image": GOOD}, data={"point_coords": f"[[{coordinate}, 5]]"})
        assert response.status_code == 422


@pytest.mark.parametrize(
    ("path", "status", "code", "word"),
    [
        ("/v1/entities?method=best", 422, "invalid_request", "method"),
        ("/v1/entities?mask_format=svg", 422, "invalid_request", "mask_format"),
        ("/v1/classes", 422, "invalid_request", "head"),
        ("/v1/classes?head=cats", 404, "head_unknown", "discs"),
        ("/v1/classes?head=../heads/discs", 404, "head_unknown", "../heads/discs"),
        ("/v1/classes?head=%00", 404, "head_unknown", ""),
        ("/v1/classes?head=discs&score_thresh=2", 422, "invalid_request", "score_thresh"),
        ("/v1/classes?head=discs&score_thresh=nan", 422, "invalid_request", "score_thresh"),
        ("/v1/nothing", 404, "not_found", "/v1/nothing"),
    ],
)
def test_bad_parameters_are_named(http: httpx.Client, path: str, status: int, code: str, word: str) -> None:
    refused(http.post(path, files={"image": GOOD}), status, code, word)


def test_a_wrong_method_names_the_right_one(http: httpx.Client) -> None:
    response = http.get("/v1/entities")
    refused(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


def connect(service: RunningService) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def test_connections_cut_at_any_point_leave_no_trace(http: httpx.Client, service: RunningService) -> None:
    request = http.build_request("POST", "/v1/entities", files={"image": picture_file(40, (300, 200))})
    body = request.read()
    head = f"POST /v1/entities HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {API_KEY}\r\n"
    head += f"content-type: {request.headers['content-type']}\r\ncontent-length: {len(body)}\r\n\r\n"
    whole = head.encode() + body
    for cut in (20, len(head) + 100, len(whole) - 10, len(whole), len(whole), len(whole), len(whole)):
        with connect(service) as line:
            line.sendall(whole[:cut])
    # More were cut than may be in flight, so a place that never came back would show.
    limit = service.args["requests"]["max_in_flight"]
    for _ in range(limit):
        response = http.post("/v1/entities", files={"image": GOOD})
        while response.status_code == 429:
            response = http.post("/v1/entities", files={"image": GOOD})
        assert response.status_code == 200


def test_a_body_of_unknown_length_is_still_bounded(http: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"\0" * 100_000

    try:
        response = http.post(
            "/v1/entities", content=endless(), headers={"content-type": "multipart/form-data; boundary=x"}
        )
    except httpx.TransportError:
        # The answer came while the body was still being sent, and the line was closed behind it.
        return
    assert response.status_code in (413, 422)


def test_a_good_image_in_a_form_with_a_hostile_name_is_answered(http: httpx.Client) -> None:
    files = {"image": ("../../etc/passwd\0.png", io.BytesIO(GOOD), "text/html")}
    assert http.post("/v1/entities", files=files).status_code == 200
