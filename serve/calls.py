"""Calls from one part of the graph to another."""

from __future__ import annotations

from typing import Any

from ray.serve.handle import DeploymentHandle, DeploymentResponse


def start(method: DeploymentHandle[Any], *args: Any) -> DeploymentResponse[Any]:
    """Begin a call."""
    response = method.remote(*args)
    assert isinstance(response, DeploymentResponse)
    return response


async def result(response: DeploymentResponse[Any], *upstream: DeploymentResponse[Any]) -> Any:
    """Await a call; when the caller ends early, end the call too, and those whose results it was given."""
    try:
        return await response
    except BaseException:
        for started in (response, *upstream):
            started.cancel()  # type: ignore[no-untyped-call]
        raise
