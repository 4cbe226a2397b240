from __future__ import annotations

import hashlib
import json

import pytest

from tests.free_ports import free_port
from tests.serve.pictures import picture_file
from tests.serve.running_service import API_KEY, RunningService
from tests.ui.answering import answering
from ui.client import Prompt, ServiceClient, ServiceProblem


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "unauthorized", "EVERYMASK_API_KEY"),
        (413, "image_too_large", "too large"),
        (422, "invalid_input", "refused: the sentence"),
        (429, "overloaded", "busy. Try again in 7 s."),
        (503, "unavailable", "not ready"),
        (504, "timed_out", "too long"),
        (500, "internal_error", "request r-1"),
    ],
)
def test_refusals_become_plain_words(status: int, code: str, words: str) -> None:
    body = json.dumps({"error": {"code": code, "message": "the sentence", "request_id": "r-1"}}).encode()
    with answering(status, body, {"Retry-After": "7"}) as url, pytest.raises(ServiceProblem, match=words) as problem:
        ServiceClient(url).heads()
    assert problem.value.code == code


@pytest.mark.parametrize("body", [b"<html>nginx</html>", b"", b"[1, 2]"])
def test_an_error_of_something_else_is_no_crash(body: bytes) -> None:
    with answering(502, body) as url, pytest.raises(ServiceProblem):
        ServiceClient(url).running()


def test_another_server_is_recognised() -> None:
    with answering(200, b"hello") as url, pytest.raises(ServiceProblem, match="not as this service does"):
        ServiceClient(url).running()


def test_a_service_that_is_down_is_said_so() -> None:
    with pytest.raises(ServiceProblem, match="Is it running"):
        ServiceClient(f"http://127.0.0.1:{free_port()}").running()


@pytest.mark.serve
@pytest.mark.parametrize(("number", "box"), [(900, [2.0, 2.0, 60.0, 50.0]), (902, None)])
def test_clicks_go_by_id_and_with_the_image_only_when_it_is_unknown(
    service: RunningService, number: int, box: list[float] | None
) -> None:
    client = ServiceClient(service.url, API_KEY)
    file = picture_file(number)
    prompt = Prompt([[10.0, 10.0], [40.0, 30.0]], [1, 0], box)

    image_id = hashlib.sha256(file).hexdigest()
    first = client.points(file, image_id, prompt)
    second = client.points(file, image_id, prompt)
    assert (first["embedding_cache"], second["embedding_cache"]) == ("miss", "hit")
    assert first["masks"] == second["masks"]
    assert client.points(b"never looked at", image_id, prompt)["masks"] == first["masks"]


@pytest.mark.serve
def test_the_other_endpoints(service: RunningService) -> None:
    client = ServiceClient(service.url, API_KEY)
    file = picture_file(901)
    assert client.running()["models"][0]["name"] == "vit_b"
    assert "discs" in {item["name"] for item in client.heads()["heads"]}
    assert client.entities(file, "entities")["masks"]
    assert client.classes(file, "discs")["head"] == "discs"
