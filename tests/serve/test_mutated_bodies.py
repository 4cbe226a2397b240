from __future__ import annotations

import httpx
import pytest

from tests.serve.mutated_bodies import mutated_bodies, send
from tests.serve.running_service import API_KEY


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_no_body_is_answered_with_a_5xx(local: httpx.Client, count: int) -> None:
    local.headers["authorization"] = f"Bearer {API_KEY}"
    try:
        statuses, faults = send(local, mutated_bodies(count, seed=count))
    finally:
        del local.headers["authorization"]
    assert not faults
    assert statuses.total() == count
    assert {200, 422} <= set(statuses)
