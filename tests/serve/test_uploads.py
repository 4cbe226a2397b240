from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from serve.uploads import Uploads


@dataclass(frozen=True)
class Sent:
    seconds: float
    body_bytes: int


@pytest.mark.parametrize(
    ("senders", "given_up"),
    [
        # A byte a second loses to a slow line; what has just come has not shown yet how fast it is.
        ([Sent(20, 20), Sent(30, 900_000), Sent(0.01, 0)], 0),
        ([Sent(30, 900_000), Sent(2, 50_000), Sent(0.01, 0)], 1),
        # All have just come: the first one has had the most time.
        ([Sent(0.02, 0), Sent(0.01, 0), Sent(0.01, 0)], 0),
    ],
)
def test_the_slowest_is_given_up(senders: list[Sent], given_up: int) -> None:
    async def scenario() -> list[bool]:
        uploads = Uploads(len(senders))
        with ExitStack() as stack:
            patience = [asyncio.timeout(60) for _ in senders]
            for timeout in patience:
                await timeout.__aenter__()
            for sender, timeout in zip(senders, patience, strict=True):
                stack.enter_context(uploads.one(sender, timeout))
            async with asyncio.timeout(60) as another:
                with uploads.one(Sent(0, 0), another):
                    return [(timeout.when() or 0) == 0 for timeout in patience]
        raise AssertionError

    assert asyncio.run(scenario()) == [i == given_up for i in range(len(senders))]
