"""What went wrong in other tools, by public reports: each must go right here."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from everymask.backbone.sam import SamBackbone
from everymask.labelling.clicks import ClickPrompt, segment_clicks
from everymask.masks.rle import boxes_from_rles, encode_label_map, rle_areas
from everymask.records import ImageLabels, LabelledMask
from serve.answers import labels_answer
from tests.serve.asking import Client, gate, scope
from tests.serve.local import local_service
from tests.serve.pictures import encoded, picture, picture_file
from tests.serve.running_service import API_KEY

KEY = {"Authorization": f"Bearer {API_KEY}"}


def patient_post(http: httpx.Client, **body: Any) -> dict[str, Any]:
    """A click, again and again until the service has room for it."""
    while (response := http.post("/v1/points", headers=KEY, **body)).status_code == 429:
        time.sleep(0.05)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_one_image_from_32_clients_at_once_gets_each_its_own_answer(local: httpx.Client, tiny_sam: SamBackbone) -> None:
    """segment-anything#357: answers of one predictor used by several threads were mixed up."""
    image = picture(800)
    file = encoded(image)
    clicks = [(3.0 * i, 2.0 * i) for i in range(32)]
    embedding = tiny_sam.embed([np.asarray(image)])[0]
    alone = [segment_clicks(tiny_sam, embedding, ClickPrompt((click,), (1,))) for click in clicks]
    with ThreadPoolExecutor(32) as pool:
        bodies = [{"files": {"image": file}, "data": {"point_coords": f"[[{x}, {y}]]"}} for x, y in clicks]
        answers = list(pool.map(lambda body: patient_post(local, **body), bodies))
    for answer, labels in zip(answers, alone, strict=True):
        assert [mask["predicted_iou"] for mask in answer["masks"]] == pytest.approx(
            [mask.predicted_iou for mask in labels.masks], abs=1e-4
        )


def test_tiles_are_refused_by_name(local: httpx.Client) -> None:
    response = local.post("/v1/entities", params={"tiles": 2}, headers=KEY, files={"image": picture_file(7)})
    assert response.status_code == 422
    assert "tiles are for jobs and the library" in response.json()["error"]["message"]


def test_no_redirect_leads_where_the_clients_host_header_says(local: httpx.Client) -> None:
    key = {"authorization": f"Bearer {API_KEY}", "host": "evil.example"}
    for path in ("/v1/models/", "/v1/entities/", "/label-studio/health/", "/docs/"):
        for method in ("GET", "POST"):
            answer = local.request(method, path, headers=key, follow_redirects=False)
            assert answer.status_code in (404, 405), (method, path, answer.headers)
    assert local.get("/", headers=key, follow_redirects=False).headers["location"] == "docs"


@pytest.mark.parametrize("name", ["authorization", "token", "x-request-id", "content-type", "accept", "x-anything"])
def test_header_bytes_that_are_no_text_are_the_clients_mistake(local: httpx.Client, name: str) -> None:
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/entities"), ("POST", "/label-studio/predict")):
        for key in ({}, {"authorization": f"Bearer {API_KEY}"}):
            headers = [(field.encode(), value.encode()) for field, value in key.items() if field != name]
            answer = local.request(method, path, headers=[*headers, (name.encode(), b"\xff\xfe\x80")])
            assert answer.status_code < 500, (name, method, path, answer.text)


def test_an_image_that_left_the_cache_between_two_clicks_is_said_so(adapted: dict[str, Any]) -> None:
    """roboflow/inference PR#2520: a click after the eviction was answered from another image's embedding."""
    with local_service({**adapted, "embedding_cache_mib": 1, "answer_cache_mib": 1}, [API_KEY]) as http:
        file = picture_file(801)
        first = patient_post(http, files={"image": file}, data={"point_coords": "[[9, 9]]"})
        for seed in range(802, 822):
            patient_post(http, files={"image": picture_file(seed)}, data={"point_coords": "[[9, 9]]"})
        by_id = {"image_id": first["image_id"], "point_coords": [[9, 9]]}
        gone = http.post("/v1/points", headers=KEY, json=by_id)
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "image_unknown")
        form = {"image_id": first["image_id"], "point_coords": "[[9, 9]]"}
        assert patient_post(http, files={"image": file}, data=form)["masks"] == first["masks"]


def test_an_id_means_nothing_to_the_service_that_is_deployed_next(adapted: dict[str, Any], tmp_path: Path) -> None:
    by_id = {"image_id": "", "point_coords": [[9, 9]]}
    with local_service(adapted, [API_KEY]) as before:
        form = {"point_coords": "[[9, 9]]"}
        by_id["image_id"] = patient_post(before, files={"image": picture_file(820)}, data=form)["image_id"]
        assert patient_post(before, json=by_id)["embedding_cache"] == "hit"
    with local_service({**adapted, "model": "nano", "checkpoint": None}, [API_KEY]) as after:
        gone = after.post("/v1/points", headers=KEY, json=by_id)
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "image_unknown")


def test_many_large_uploads_at_once_are_bounded_in_memory() -> None:
    """rembg#289: 64 uploads of 20 megapixels at once ended the process."""
    pieces = [b"x" * 2**20] * 8

    async def scenario() -> tuple[list[Client], int]:
        most = 0

        async def work(scope: Any, receive: Any, send: Any) -> None:
            nonlocal most
            most = max(most, service._body_bytes)
            while (await receive()).get("more_body"):
                await asyncio.sleep(0)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        service = gate(work, max_body_bytes=2**24, max_in_flight=4, max_body_mib=40)
        clients = [Client(*pieces) for _ in range(64)]
        await asyncio.gather(*(service(scope(), client.receive, client.send) for client in clients))
        assert service._body_bytes == 0
        return clients, most

    clients, most = asyncio.run(scenario())
    assert {client.status for client in clients} <= {200, 429}
    assert sum(client.status == 200 for client in clients) >= 1
    assert most <= 40 * 2**20


def checkerboard(height: int, width: int, side: int) -> ImageLabels:
    """Labels of a chequered image, one mask a square."""
    rows, columns = np.arange(height) * side // height, np.arange(width) * side // width
    rles = encode_label_map((rows[:, None] * side + columns[None]).astype(np.int32), side * side)
    boxes, areas = boxes_from_rles(rles).tolist(), rle_areas(rles).tolist()
    masks = tuple(
        LabelledMask(rle, (box[0], box[1], box[2], box[3]), area, 0.9, 0.9, (1.0, 1.0), 0.9)
        for rle, box, area in zip(rles, boxes, areas, strict=True)
    )
    return ImageLabels((height, width), masks, 1.0)


@pytest.mark.slow
def test_hundreds_of_png_masks_of_a_large_image_take_the_memory_of_one() -> None:
    """FastSAM#157: all masks of a 24-megapixel image at once did not fit."""
    labels = checkerboard(4000, 6000, 15)
    tracemalloc.start()
    answer = labels_answer(labels, "0" * 64, False, "nano", 0.0, "png").model_dump_json(exclude_none=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.count("png_base64") == 225
    assert peak < 8 * 4000 * 6000 + 4 * len(answer)


def test_a_predicted_iou_above_one_passes_and_scores_stay_within_one() -> None:
    """segment-anything#40: the model's estimate of an IoU may exceed 1."""
    mask = checkerboard(4, 4, 1).masks[0]
    labels = ImageLabels((4, 4), (replace(mask, predicted_iou=1.03, score=1.0),), 1.0)
    answer = labels_answer(labels, "0" * 64, False, "nano", 0.0, "rle")
    assert answer.masks[0].predicted_iou == 1.03
    assert answer.masks[0].score == 1.0
