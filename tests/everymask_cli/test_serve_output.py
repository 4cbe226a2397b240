"""What a person reads of Ray Serve's output."""

from __future__ import annotations

import io
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from everymask_cli.serve_output import ServeOutput

_FROM = "\x1b[36m(ServeController pid=7)\x1b[0m"


def test_a_slow_start_is_one_line_and_an_error_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    said = f"""
{_FROM} INFO 2026-12-01 02:14:30,777 controller 7 -- Deploying new version
{_FROM} WARNING 2026-12-01 02:14:34,777 controller 7 -- Proxy actor readiness check for proxy on 5d didn't complete in 5.0s.
{_FROM} WARNING 2026-12-01 02:14:34,778 controller 7 -- Proxy actor reported not ready on node 5d
{_FROM} WARNING 2026-12-01 02:16:04,690 controller 7 -- Deployment 'Encoder' in application 'everymask' has 1 replicas that have taken more than 30s to be scheduled. Use `ray status` for more details.
{_FROM} WARNING 2026-12-01 02:16:34,733 controller 7 -- Deployment 'Encoder' in application 'everymask' has 1 replicas that have taken more than 30s to initialize.
{_FROM} This may be caused by a slow __init__ or reconfigure method.
{_FROM} ERROR 2026-12-01 02:16:35,000 controller 7 -- Exception in replica
"""  # noqa: E501
    ServeOutput("http://127.0.0.1:8000", None).follow(io.BytesIO(said.encode()))
    slow, error = capsys.readouterr().err.splitlines()
    assert slow == "still starting; if it stays so, `ray status` says what the service waits for"
    assert error.endswith("Exception in replica")


class Ready(BaseHTTPRequestHandler):
    """A service that is ready."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_once_it_is_ready_a_part_that_waits_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    waits = f"{_FROM} WARNING controller 7 -- 1 replicas that have taken more than 30s to be scheduled.\n"
    readable, writable = os.pipe()
    with HTTPServer(("127.0.0.1", 0), Ready) as server, os.fdopen(readable, "rb") as output:
        serving = ServeOutput(f"http://127.0.0.1:{server.server_port}", ["heads"])
        follower = threading.Thread(target=serving.follow, args=(output,))
        follower.start()
        with os.fdopen(writable, "w") as ray:
            ray.write(waits)
            ray.flush()
            said, deadline = "", time.monotonic() + 60
            while not said and time.monotonic() < deadline:
                said = capsys.readouterr().err
            threading.Thread(target=server.serve_forever, daemon=True).start()
            assert serving.ready.wait(60)
            ray.write(waits)
        follower.join(60)
        server.shutdown()
    assert said == "still starting; if it stays so, `ray status` says what the service waits for\n"
    assert capsys.readouterr().err == waits
