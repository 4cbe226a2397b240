"""The service under a route prefix, through the real Serve: keys, routes and the document are as without one."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack

import httpx
import pytest

from tests.serve.pictures import picture_file
from tests.serve.running_service import API_KEY, RunningService

pytestmark = pytest.mark.serve


def test_keys_are_asked_for(prefixed: RunningService) -> None:
    with prefixed.client(api_key=None) as http:
        for path in ("/v1/models", "/v1/heads", "/nothing", "//healthz", "/label-studio/health"):
            # The whole address: a client would take `//healthz` alone for a host.
            assert http.get(f"{prefixed.url}{path}").status_code == 401, path
        assert http.post("/v1/entities", files={"image": picture_file(1)}).status_code == 401
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
            assert http.get(path).status_code == 200, path
        start = http.get("/", follow_redirects=True)
        assert start.url.path == "/mask/docs"
        for file in re.findall(r'(?:src|href)="([^"]+)"', start.text):
            assert file.startswith("/mask/docs-files/"), file
            assert httpx.get(str(start.url.join(file))).status_code == 200, file


def test_requests_are_answered(prefixed: RunningService) -> None:
    with prefixed.client() as http:
        assert http.get("/v1/models").json()["models"][0]["name"] == "vit_b"
        answer = http.post("/v1/points", files={"image": picture_file(1)}, data={"point_coords": "[[9, 9]]"})
        assert answer.status_code == 200
        assert http.get("/openapi.json").json()["servers"] == [{"url": "/mask"}]


def test_uploads_that_stand_still_are_ended_and_hold_up_nobody(prefixed: RunningService) -> None:
    host = httpx.URL(prefixed.url)
    head = (
        f"POST /mask/v1/entities HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {API_KEY}\r\n"
        "content-type: multipart/form-data; boundary=x\r\ncontent-length: 1000\r\n\r\n--x"
    )
    with ExitStack() as lines:
        stalled = [
            lines.enter_context(socket.create_connection((host.host, host.port or 80), timeout=60)) for _ in range(16)
        ]
        for line in stalled:
            line.sendall(head.encode())
        with prefixed.client() as http:
            prompt = http.post("/v1/points", files={"image": picture_file(2)}, data={"point_coords": "[[9, 9]]"})
            assert prompt.status_code == 200, prompt.text
        answers = [line.recv(4096) for line in stalled]
    assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers), answers
