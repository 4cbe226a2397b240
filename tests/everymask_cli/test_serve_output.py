"""What a person reads of Ray Serve's output."""

from __future__ import annotations

import io

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
