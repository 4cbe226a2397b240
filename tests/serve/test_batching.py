from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from serve.batching import Batcher


class Doubler:
    """A model that doubles numbers, one batch at a time, and waits for leave before each."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.leave = asyncio.Semaphore(0)

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.leave.acquire()
        if 13 in items:
            raise ArithmeticError("thirteen")
        return [2 * item for item in items]


async def settled() -> None:
    """Every task has done what it can do now."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_lone_item_does_not_wait_and_the_next_ones_share_batches() -> None:
    async def scenario() -> tuple[list[list[int]], list[int]]:
        model = Doubler()
        batcher = Batcher(model, max_size=3)
        calls = [asyncio.create_task(batcher(0))]
        await settled()
        assert model.batches == [[0]]
        calls += [asyncio.create_task(batcher(item)) for item in range(1, 6)]
        await settled()
        for _ in range(3):
            model.leave.release()
        answers = await asyncio.gather(*calls)
        # Idle again, it takes the next one at once.
        model.leave.release()
        answers.append(await batcher(6))
        return model.batches, answers

    batches, answers = asyncio.run(scenario())
    assert batches == [[0], [1, 2, 3], [4, 5], [6]]
    assert answers == [0, 2, 4, 6, 8, 10, 12]


def test_what_is_cancelled_while_it_waits_is_never_run() -> None:
    async def scenario() -> list[list[int]]:
        model = Doubler()
        batcher = Batcher(model, max_size=8)
        calls = [asyncio.create_task(batcher(item)) for item in range(4)]
        await settled()
        late = [asyncio.create_task(batcher(item)) for item in range(4, 7)]
        await settled()
        calls[0].cancel()
        late[1].cancel()
        for _ in range(2):
            model.leave.release()
        rest = await asyncio.gather(*calls[1:], late[0], late[2])
        assert rest == [2, 4, 6, 8, 12]
        return model.batches

    assert asyncio.run(scenario()) == [[0, 1, 2, 3], [4, 6]]


def test_a_failed_batch_does_not_end_the_service() -> None:
    async def scenario() -> None:
        model = Doubler()
        batcher = Batcher(model, max_size=1)
        model.leave.release()
        with pytest.raises(ArithmeticError):
            await batcher(13)
        model.leave.release()
        assert await batcher(4) == 8

    asyncio.run(scenario())
