"""Debian's nginx with the configuration that the project ships, in front of real servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from tests.free_ports import free_port
from tests.serve.local import listening
from tests.serve.pictures import picture_file
from tests.serve.running_service import API_KEY, REPOSITORY, RunningService, await_that, standing_still
from tests.ui.answering import answering

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
IN_FLIGHT = "ray_everymask_in_flight{}"
pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx here; install it with: apt-get install -y nginx-light")


@contextmanager
def in_front_of(upstream: str, folder: Path) -> Iterator[httpx.URL]:
    """nginx before the server at `upstream`."""
    port = free_port()
    shipped = (REPOSITORY / "serve/config/nginx.conf").read_text()
    assert shipped.count("listen 80;") == shipped.count("http://127.0.0.1:8000;") == 1
    site = shipped.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("http://127.0.0.1:8000", upstream)
    (folder / "site.conf").write_text(site)
    kept = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    main = (
        f"daemon off; {user} pid {folder}/pid; error_log {folder}/error.log; events {{}} "
        f"http {{ access_log off; {kept} include {folder}/site.conf; }}"
    )
    (folder / "nginx.conf").write_text(main)
    command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with subprocess.Popen(command) as process:
        try:
            await_that(lambda: accepts(port) or process.poll() is not None)
            assert process.poll() is None, (folder / "error.log").read_text()
            yield httpx.URL(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


class Mirror:
    """An app that answers what it was asked, as JSON."""

    def __init__(self) -> None:
        self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.requests += 1
        received = 0
        more = True
        while more:
            message = await receive()
            received += len(message.get("body", b""))
            more = message.get("more_body", False)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps({"headers": headers, "body": received}).encode()})


@pytest.fixture(scope="module")
def mirror() -> Mirror:
    return Mirror()


@pytest.fixture(scope="module")
def url(mirror: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.URL]:
    with (
        listening(mirror, free_port()) as upstream,
        in_front_of(upstream, tmp_path_factory.mktemp("nginx")) as address,
    ):
        yield address


def connected(url: httpx.URL) -> socket.socket:
    return socket.create_connection((url.host, url.port or 80), timeout=30)


def test_a_plain_500_is_a_503_to_be_tried_again(tmp_path: Path) -> None:
    with answering(500, b"Internal Server Error", {"content-type": "text/plain"}) as upstream:
        check_unavailable(upstream, tmp_path)


def test_a_service_that_is_away_is_a_503_to_be_tried_again(tmp_path: Path) -> None:
    check_unavailable(f"http://127.0.0.1:{free_port()}", tmp_path)


def check_unavailable(upstream: str, folder: Path) -> None:
    with in_front_of(upstream, folder) as url:
        answer = httpx.post(url.join("/v1/entities"), content=b"x", headers={"x-request-id": "mine-1"})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == "unavailable"
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("status", [401, 404, 413, 422, 429, 500, 503, 504])
def test_what_the_service_says_itself_arrives(tmp_path: Path, status: int) -> None:
    message = "the service failed on this request; its log has the reason"
    body: dict[str, Any] = {"error": {"code": "internal_error", "message": message, "request_id": "mine-2"}}
    content = json.dumps(body).encode()
    with (
        answering(status, content, {"content-type": "application/json", "Retry-After": "7"}) as upstream,
        in_front_of(upstream, tmp_path) as url,
    ):
        answer = httpx.get(url, headers={"x-request-id": "mine-2"})
    assert (answer.status_code, answer.json()) == (status, body)
    assert answer.headers.get("retry-after") == (None if status == 500 else "7")


def test_a_header_without_end_is_refused_while_it_comes(url: httpx.URL, mirror: Mirror) -> None:
    before = mirror.requests
    with connected(url) as line:
        line.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2**17)
        assert line.recv(1000).startswith(b"HTTP/1.1 400")
    assert mirror.requests == before
    assert httpx.get(url).status_code == 200


def test_bodies_that_come_slowly_take_no_place_of_others(url: httpx.URL, mirror: Mirror) -> None:
    head = b"POST /v1/entities HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{"
    before = mirror.requests
    with ExitStack() as lines:
        for _ in range(130):
            line = lines.enter_context(connected(url))
            line.sendall(head)
        # Of one address only so many are kept; another one is not kept out.
        elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(transport=elsewhere, timeout=30) as other:
            assert other.post(url, content=b"whole").json()["body"] == 5
    assert mirror.requests == before + 1


@pytest.mark.parametrize(
    "name", ["x-request-id", "x-session-id", "serve_multiplexed_model_id", "serve-multiplexed-model-id", "traceparent"]
)
@pytest.mark.parametrize("value", [b"\xff\xfe", b"r" * 5000, b"../../x"])
def test_headers_that_serve_would_read_are_clean(url: httpx.URL, name: str, value: bytes) -> None:
    answer = httpx.get(url, headers=[(name.encode(), value)])
    assert answer.status_code == 200
    headers = answer.json()["headers"]
    assert headers["x-request-id"].isalnum()
    if name != "x-request-id":
        assert name not in headers


@pytest.mark.parametrize("path", [b"/-/routes", b"//-/healthz", b"/%2d/routes", b"/v1/../-/routes"])
def test_pages_of_serve_itself_are_not_to_be_had(url: httpx.URL, mirror: Mirror, path: bytes) -> None:
    before = mirror.requests
    with connected(url) as line:
        line.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert line.recv(1000).startswith(b"HTTP/1.1 404")
    assert mirror.requests == before


def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(url: httpx.URL, mirror: Mirror) -> None:
    before = mirror.requests
    with connected(url) as line:
        line.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n")
        assert line.recv(1000).startswith(b"HTTP/1.1 413")
    assert mirror.requests == before


@pytest.mark.serve
def test_clients_of_a_killed_ingress_are_told_to_come_again(service: RunningService, tmp_path: Path) -> None:
    """kill -9 under requests: those it took with it, and those that come while another one starts."""
    api = service.replica_pid("Api")
    with in_front_of(service.url, tmp_path) as url, httpx.Client(base_url=url, timeout=60) as http:
        http.headers["authorization"] = f"Bearer {API_KEY}"

        def ask(seed: int) -> httpx.Response:
            return http.post("/v1/points", files={"image": picture_file(seed)}, data={"point_coords": "[[3, 3]]"})

        def is_back() -> bool:
            answers.append(ask(803))
            return answers[-1].status_code == 200

        answers = []
        with ThreadPoolExecutor(3) as pool, standing_still(service.replica_pid("Encoder")):
            waiting = [pool.submit(ask, seed) for seed in (800, 801, 802)]
            await_that(lambda: service.metrics()[IN_FLIGHT] == len(waiting))
            os.kill(api, signal.SIGKILL)
            answers += [one.result() for one in waiting]
        await_that(is_back)
    assert answers.pop().json()["masks"]
    assert service.replica_pid("Api") != api
    assert len(answers) >= len(waiting)
    for answer in answers:
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/json")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["code"] == "unavailable"
