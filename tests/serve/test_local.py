"""Answers of the service in this process: what needs no cluster to be seen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from ray import serve
from ray.serve.schema import ApplicationStatus, DeploymentStatus

from everymask.masks.rle import decode_mask
from tests.serve.pictures import encoded, picture
from tests.serve.running_service import API_KEY

KEY = {"Authorization": f"Bearer {API_KEY}"}
FILE = encoded(picture(60))


@pytest.fixture(scope="module")
def document(local: httpx.Client) -> Any:
    return local.get("/openapi.json").json()


@pytest.mark.parametrize("path", ["/v1/entities", "/v1/points", "/v1/classes"])
def test_examples_of_the_document_work_when_pasted(local: httpx.Client, document: Any, path: str) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    query = {"head": "discs"} if path == "/v1/classes" else {}
    response = local.post(path, params=query, json=content["application/json"]["example"], headers=KEY)
    assert response.status_code == 200, response.text
    assert (response.json()["width"], response.json()["height"]) == (48, 32)


@pytest.mark.parametrize("path", ["/v1/entities", "/v1/points", "/v1/classes"])
def test_a_form_has_the_fields_of_a_form(document: Any, path: str) -> None:
    schema = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    clicks = {"point_coords", "point_labels", "box", "multimask_output"} if path == "/v1/points" else set()
    assert (schema["type"], schema["additionalProperties"]) == ("object", False)
    assert schema["properties"].keys() >= {"image", "image_id"} | clicks


@pytest.mark.parametrize("path", ["/v1/entities", "/v1/points", "/v1/classes"])
def test_each_kind_of_body_needs_an_image_or_its_id_and_clicks_or_a_box(document: Any, path: str) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    for kind, image in (("multipart/form-data", "image"), ("application/json", "image_base64")):
        schema = content[kind]["schema"]
        choices = [{field for way in choice["anyOf"] for field in way["required"]} for choice in schema["allOf"]]
        assert choices == [{image, "image_id"}] + ([{"point_coords", "box"}] if path == "/v1/points" else [])
        assert set().union(*choices) <= schema["properties"].keys()


@pytest.mark.parametrize("path", ["/v1/entities", "/v1/points", "/v1/classes?head=discs"])
def test_masks_are_run_lengths_unless_another_form_is_asked_for(local: httpx.Client, path: str) -> None:
    clicks = {"data": {"point_coords": "[[48, 32]]"}} if path == "/v1/points" else {}
    answer = local.post(path, files={"image": FILE}, headers=KEY, **clicks).json()
    assert answer["masks"]
    for mask in answer["masks"]:
        assert decode_mask(mask["rle"]).sum() == mask["area"]
        assert mask.keys().isdisjoint({"polygon", "png_base64"})


def reported(application: str, **parts: str) -> SimpleNamespace:
    """What `serve.status` says of the application's parts."""
    deployments = {name: SimpleNamespace(status=DeploymentStatus(state)) for name, state in parts.items()}
    return SimpleNamespace(status=ApplicationStatus(application), deployments=deployments)


@pytest.mark.parametrize(
    ("of_app", "status", "deployments"),
    [
        (None, 503, {"everymask": "NOT_STARTED"}),
        (reported("DEPLOYING", Refiner="HEALTHY", Api="UPDATING"), 503, {"Refiner": "HEALTHY", "Api": "UPDATING"}),
        (reported("DEPLOY_FAILED", Api="HEALTHY"), 503, {"Api": "HEALTHY", "everymask": "DEPLOY_FAILED"}),
        (reported("RUNNING", Refiner="HEALTHY", Api="HEALTHY"), 200, {"Refiner": "HEALTHY", "Api": "HEALTHY"}),
    ],
)
def test_a_service_is_ready_once_every_part_is_healthy(
    local: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    of_app: SimpleNamespace | None,
    status: int,
    deployments: dict[str, str],
) -> None:
    applications = {} if of_app is None else {"everymask": of_app}
    monkeypatch.setattr(serve, "status", lambda: SimpleNamespace(applications=applications))
    answer = local.get("/readyz")
    assert (answer.status_code, answer.json()["deployments"]) == (status, deployments)
    assert answer.json()["status"] == ("ready" if status == 200 else "not ready")
    assert ("retry-after" in answer.headers) == (status == 503)


def test_an_answer_names_the_parts_that_it_took_time_in(local: httpx.Client) -> None:
    response = local.post("/v1/entities", files={"image": encoded(picture(62))}, headers=KEY)
    timing = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert timing.keys() >= {"decode", "embed", "encoder", "encoder_hop", "entities", "refiner"}


def test_a_path_that_is_not_there_is_an_error_of_ours(local: httpx.Client) -> None:
    lost = local.get("/v1/nothing", headers=KEY)
    assert (lost.status_code, lost.json()["error"]["code"]) == (404, "not_found")
    wrong = local.get("/v1/entities", headers=KEY)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")


def test_a_field_that_is_wrong_is_named_with_what_is_wrong(local: httpx.Client) -> None:
    answer = local.post("/v1/points", json={"image_id": "7", "point_coords": [[1, 2]]}, headers=KEY)
    assert answer.status_code == 422
    assert "image_id: String should match pattern" in answer.json()["error"]["message"]
