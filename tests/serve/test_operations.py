"""What an operator sees: request ids, logs, metrics, and the service under more load than it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from data_jobs.runtime.object_store import MAX_OBJECT_STORE_BYTES
from tests.serve.pictures import picture_file
from tests.serve.running_service import API_KEY, RunningService, await_that

pytestmark = pytest.mark.serve


@pytest.fixture(scope="module")
def http(service: RunningService) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def test_a_request_id_runs_through_answer_and_logs(http: httpx.Client, service: RunningService) -> None:
    response = http.post(
        "/v1/points",
        files={"image": picture_file(500)},
        data={"point_coords": "[[3, 3]]"},
        headers={"x-request-id": "trace-me-7"},
    )
    assert response.headers["x-request-id"] == "trace-me-7"
    entries = service.log_entries("trace-me-7")
    assert {entry["deployment"] for entry in entries} == {f"everymask_{part}" for part in ("Api", "Encoder", "Refiner")}
    labelled = [entry for entry in entries if entry["message"] == "labelled"]
    assert labelled[0]["image_id"] == response.json()["image_id"]
    assert labelled[0]["masks"] == len(response.json()["masks"])


def test_a_clients_mistake_is_no_error_in_the_log(http: httpx.Client, service: RunningService) -> None:
    response = http.post("/v1/entities", files={"image": b"no image"})
    assert response.status_code == 422
    entries = service.log_entries(response.headers["x-request-id"])
    assert entries
    assert {entry["levelname"] for entry in entries} <= {"INFO", "WARNING"}
    assert not any("Traceback" in json.dumps(entry) for entry in entries)


def test_no_log_holds_an_api_key(http: httpx.Client, service: RunningService) -> None:
    assert http.get("/v1/models").status_code == 200
    secret = "wrong-key-4711"
    assert httpx.get(f"{service.url}/v1/models", headers={"authorization": f"Bearer {secret}"}).status_code == 401
    for path in Path(service.temporary).rglob("*.log"):
        text = path.read_text(errors="replace")
        assert API_KEY not in text, path
        assert secret not in text, path


def test_overload_is_answered_429_and_passes(http: httpx.Client, service: RunningService) -> None:
    limit = service.args["requests"]["max_in_flight"]
    files = [picture_file(600 + i, (160, 120)) for i in range(8 * limit)]

    def send(file: bytes) -> httpx.Response:
        # A connection each, so that all arrive at once.
        with service.client() as client:
            return client.post("/v1/entities", files={"image": file})

    with ThreadPoolExecutor(len(files)) as pool:
        responses = list(pool.map(send, files))
    assert {response.status_code for response in responses} == {200, 429}
    assert sum(response.status_code == 200 for response in responses) >= limit
    for response in responses:
        if response.status_code == 429:
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["code"] == "overloaded"
    # Probes are answered in between, and afterwards all is as before.
    assert http.get("/readyz").status_code == 200
    assert http.post("/v1/entities", files={"image": picture_file(1)}).status_code == 200


def test_prometheus_sees_requests_stages_batches_and_the_cache(http: httpx.Client, service: RunningService) -> None:
    answer = http.post("/v1/points", files={"image": picture_file(501)}, data={"point_coords": "[[3, 3]]"}).json()
    http.post("/v1/points", json={"image_id": answer["image_id"], "point_coords": [[3, 3]]})
    wanted = {
        'ray_everymask_http_requests_total{route="/v1/points",status="200"}',
        'ray_everymask_http_latency_ms_count{route="/v1/points"}',
        'ray_everymask_stage_latency_ms_count{stage="decode"}',
        'ray_everymask_stage_latency_ms_count{stage="embed"}',
        'ray_everymask_stage_latency_ms_count{stage="clicks"}',
        "ray_everymask_embedding_cache_hits_total{}",
        "ray_everymask_embedding_cache_misses_total{}",
        "ray_everymask_embedding_cache_bytes{}",
        "ray_everymask_in_flight{}",
        "ray_everymask_encoder_images_total{}",
        "ray_everymask_encoder_batches_total{}",
    }
    seen: dict[str, float] = {}

    def all_seen() -> bool:
        # Each sample has its moment: counters come at the next report, and gauges leave when they are not set again.
        seen.update(service.metrics())
        # The cache's gauge may have been set before the first image came.
        return wanted <= set(seen) and seen["ray_everymask_embedding_cache_bytes{}"] > 0

    await_that(all_seen, limit_s=120)
    assert seen["ray_everymask_embedding_cache_hits_total{}"] >= 1


def test_ray_takes_no_more_memory_for_its_object_store_than_for_a_job(service: RunningService) -> None:
    """Its own choice is 30 % of the machine."""
    assert service.object_store_bytes() <= MAX_OBJECT_STORE_BYTES


@pytest.mark.parametrize("part", ["Encoder", "Refiner"])
def test_prometheus_sees_the_memory_of_replicas_with_a_model(service: RunningService, part: str) -> None:
    with_torch_bytes = 100 * 2**20

    def held() -> float:
        return service.metrics(["deployment", "device"]).get(name, 0.0)

    name = f'ray_everymask_memory_bytes{{deployment="{part}",device="cpu"}}'
    await_that(lambda: held() > with_torch_bytes, limit_s=120)
