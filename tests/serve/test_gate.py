from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from serve.auth import ApiKeys
from serve.gate import Gate
from tests.serve.asking import Client, gate, read_all, scope


def ask(service: Gate, request: dict[str, Any], *body: bytes) -> Client:
    client = Client(*(body or (b"",)))
    asyncio.run(service(request, client.receive, client.send))
    return client


def test_a_body_within_the_limit_passes() -> None:
    assert ask(gate(), scope(), b"a" * 60, b"b" * 40).sent[1]["body"] == b"100"


def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    client = Client(b"a")
    asyncio.run(gate()(scope(content_length="101"), client.receive, client.send))
    assert (client.status, client.error["code"]) == (413, "body_too_large")
    assert client._messages


def test_a_body_that_lies_about_its_length_is_counted() -> None:
    client = ask(gate(), scope(content_length="5"), b"a" * 60, b"b" * 60)
    assert (client.status, client.error["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("prefix", ["", "/mask", "/v1", "/healthz"])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/v1/models", 401),
        ("/v1/healthz", 401),
        ("//healthz", 401),
        ("/healthz/", 401),
        ("/HEALTHZ", 401),
        ("/docs/oauth2-redirect", 401),
        ("/label-studio/health", 401),
        ("/x-anylabeling/v1/models", 401),
        ("/", 200),
        ("/docs-files/swagger-ui-bundle.js", 200),
        ("/docs-files/other.js", 401),
        ("/docs-files/../v1/models", 401),
        ("", 401),
    ],
)
def test_everything_needs_a_key_but_the_probes_and_the_description(prefix: str, path: str, status: int) -> None:
    keys = ApiKeys(["right"])
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        assert ask(gate(keys=keys), scope(method, path, prefix)).status == status
        assert ask(gate(keys=keys), scope(method, path, prefix, authorization="Bearer wrong")).status == status
        assert ask(gate(keys=keys), scope(method, path, prefix, authorization="Bearer right")).status == 200


def test_a_refusal_for_want_of_a_key_says_how_to_send_one() -> None:
    client = ask(gate(keys=ApiKeys(["right"])), scope())
    assert client.headers["www-authenticate"] == "Bearer"
    assert "Authorization" in client.error["message"]
    assert client.error["request_id"] == "request-7"


class StalledClient(Client):
    """Sends a first piece of its body, and then nothing."""

    async def receive(self) -> dict[str, Any]:
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)


def test_clients_that_send_slowly_hold_no_place() -> None:
    async def scenario() -> tuple[list[Client], Client]:
        service = gate(max_in_flight=2, body_limit_s=0.2)
        stalled: list[Client] = [StalledClient(b"x", b"") for _ in range(8)]
        for client in stalled:
            client._messages.pop()
        waiting = [asyncio.create_task(service(scope(), client.receive, client.send)) for client in stalled]
        await asyncio.sleep(0)
        prompt = Client(b"whole")
        await service(scope(), prompt.receive, prompt.send)
        await asyncio.gather(*waiting)
        return stalled, prompt

    stalled, prompt = asyncio.run(scenario())
    assert prompt.status == 200
    assert {(client.status, client.error["code"]) for client in stalled} == {(408, "body_timed_out")}


def test_one_upload_too_many_costs_another_its_place_at_once() -> None:
    async def scenario() -> tuple[list[Client], Client]:
        service = gate(max_uploads=3, body_limit_s=60)
        stalled: list[Client] = [StalledClient(b"x", b"") for _ in range(3)]
        for client in stalled:
            client._messages.pop()
        waiting = [asyncio.create_task(service(scope(), client.receive, client.send)) for client in stalled]
        await asyncio.sleep(0)
        prompt = Client(b"whole")
        await service(scope(), prompt.receive, prompt.send)
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return stalled, prompt

    stalled, prompt = asyncio.run(scenario())
    assert prompt.status == 200
    assert [client.status for client in stalled if client.sent] == [408]


def test_bodies_of_all_clients_together_are_bounded() -> None:
    piece = b"x" * 700_000

    async def scenario() -> tuple[Client, Client]:
        service = gate(max_body_bytes=2_000_000, max_body_mib=1, body_limit_s=0.2)
        first = StalledClient(piece, b"")
        first._messages.pop()
        waiting = asyncio.create_task(service(scope(), first.receive, first.send))
        await asyncio.sleep(0)
        second = Client(piece)
        await service(scope(), second.receive, second.send)
        await waiting
        # What the two held is given back.
        third = Client(piece)
        await service(scope(), third.receive, third.send)
        return second, third

    second, third = asyncio.run(scenario())
    assert (second.status, second.error["code"]) == (429, "overloaded")
    assert third.status == 200


def test_past_the_time_limit_the_work_is_cancelled() -> None:
    cancelled = []

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    client = ask(gate(endless, time_limit_s=0.01), scope())
    assert (client.status, client.error["code"]) == (504, "timed_out")
    assert cancelled == [True]


def test_more_than_the_bound_is_refused_and_places_come_back() -> None:
    async def scenario() -> list[Client]:
        leave = asyncio.Event()

        async def wait(scope: Any, receive: Any, send: Any) -> None:
            await leave.wait()
            await read_all(scope, receive, send)

        service = gate(wait, max_in_flight=2, retry_after_s=7)
        clients = [Client(b"x") for _ in range(4)]
        waiting = [asyncio.create_task(service(scope(), c.receive, c.send)) for c in clients[:2]]
        await asyncio.sleep(0)
        await service(scope(), clients[2].receive, clients[2].send)
        leave.set()
        await asyncio.gather(*waiting)
        await service(scope(), clients[3].receive, clients[3].send)
        return clients

    clients = asyncio.run(scenario())
    assert [client.status for client in clients] == [200, 200, 429, 200]
    assert clients[2].headers["retry-after"] == "7"


def test_what_would_not_be_answered_in_time_is_refused_at_once() -> None:
    async def scenario() -> list[Client]:
        leave = asyncio.Event()

        async def wait(scope: Any, receive: Any, send: Any) -> None:
            await leave.wait()
            await read_all(scope, receive, send)

        service = gate(wait, max_in_flight=64, time_limit_s=50)
        for i in range(30):
            service._pace.answered(20.0 * i, 20.0 * (i + 1))
        clients = [Client(b"x") for _ in range(3)]
        waiting = [asyncio.create_task(service(scope(), c.receive, c.send)) for c in clients[:2]]
        await asyncio.sleep(0)
        await service(scope(), clients[2].receive, clients[2].send)
        leave.set()
        await asyncio.gather(*waiting)
        return clients

    # One takes 20 s: the third would have its answer after 60.
    clients = asyncio.run(scenario())
    assert [client.status for client in clients] == [200, 200, 429]
    assert "retry-after" in clients[2].headers


def test_a_request_cancelled_from_outside_gives_its_place_back() -> None:
    async def scenario() -> int:
        async def endless(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/v1/points":
                await asyncio.Event().wait()
            await read_all(scope, receive, send)

        service = gate(endless, max_in_flight=1)
        gone = Client(b"x")
        task = asyncio.create_task(service(scope(path="/v1/points"), gone.receive, gone.send))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        after = Client(b"x")
        await service(scope(), after.receive, after.send)
        return after.status

    assert asyncio.run(scenario()) == 200


@pytest.fixture
def service_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the service logs; Ray keeps that from the root logger, where pytest listens."""
    logger = logging.getLogger("ray.serve")
    caplog.set_level("DEBUG", "ray.serve")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_an_unforeseen_error_is_a_500_without_its_details_which_are_logged(
    service_log: pytest.LogCaptureFixture,
) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("secret detail")

    client = ask(gate(broken), scope())
    assert (client.status, client.error["code"]) == (500, "internal_error")
    assert "secret" not in json.dumps(client.error)
    assert "unexpected error on /v1/entities" in service_log.text
    assert "KeyError: 'secret detail'" in service_log.text


def test_what_is_the_clients_fault_is_not_logged_as_ours(service_log: pytest.LogCaptureFixture) -> None:
    client = ask(gate(read_all, keys=ApiKeys(["hunter2"])), scope(authorization="Bearer wrong"))
    assert client.status == 401
    assert not [record for record in service_log.records if record.levelname == "ERROR"]


def test_a_key_is_never_logged(service_log: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("boom")

    service_log.set_level("DEBUG")
    ask(gate(broken, keys=ApiKeys(["hunter2"])), scope(authorization="Bearer hunter2"))
    assert "boom" in service_log.text, "something is logged"
    assert "hunter2" not in service_log.text
