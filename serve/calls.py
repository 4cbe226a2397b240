"""Calls between parts of the graph."""

from __future__ import annotations

from typing import Any

from ray.serve.handle import DeploymentHandle, DeploymentResponse


def start(method: DeploymentHandle[Any], *args: Any) -> DeploymentResponse[Any]:
    response = method.remote(*args)
    assert isinstance(response, DeploymentResponse)
    return response


async def result(response: DeploymentResponse[Any], *upstream: DeploymentResponse[Any]) -> Any:
    """Await a call; if the caller ends early, cancel the call and the `upstream` calls it depends on."""
    try:
        return await response
    except BaseException:
        for started in (response, *upstream):
            started.cancel()  # type: ignore[no-untyped-call]
        raise
