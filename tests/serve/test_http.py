"""The endpoints of the real service, over the wire."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from everymask.backbone.sam import SamBackbone
from everymask.labelling.clicks import ClickPrompt, segment_clicks
from everymask.masks.rle import decode_mask
from tests.serve.pictures import encoded, picture, picture_file
from tests.serve.running_service import CLASSES, OTHER_API_KEY, RunningService, write_head

pytestmark = pytest.mark.serve


@pytest.fixture(scope="module")
def http(service: RunningService) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def ok(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def post(http: httpx.Client, path: str, file: bytes, **fields: str) -> dict[str, Any]:
    return ok(http.post(path, files={"image": file}, data=fields))


def test_entities_are_disjoint_ranked_and_cover_what_they_say(http: httpx.Client) -> None:
    file = picture_file(1, (120, 80))
    answer = post(http, "/v1/entities", file)
    assert answer["image_id"] == hashlib.sha256(file).hexdigest()
    assert (answer["width"], answer["height"], answer["model"]) == (120, 80, "vit_b")
    masks = np.stack([decode_mask(mask["rle"]) for mask in answer["masks"]])
    assert masks.shape[1:] == (80, 120)
    assert masks.sum(axis=0).max() == 1
    assert answer["coverage"] == pytest.approx(masks.any(axis=0).mean())
    scores = [mask["score"] for mask in answer["masks"]]
    assert scores == sorted(scores, reverse=True)
    for mask, pixels in zip(answer["masks"], masks, strict=True):
        x, y, width, height = mask["bbox"]
        assert pixels[y : y + height, x : x + width].sum() == mask["area"] == pixels.sum()


def test_json_says_the_same_as_a_form(http: httpx.Client) -> None:
    file = picture_file(2)
    form = post(http, "/v1/entities", file)
    body = {"image_base64": base64.b64encode(file).decode()}
    json = ok(http.post("/v1/entities", json=body))
    assert json["masks"] == form["masks"]


def test_mask_formats_agree(http: httpx.Client) -> None:
    file = picture_file(3)
    rle = post(http, "/v1/entities?mask_format=rle", file)["masks"]
    png = post(http, "/v1/entities?mask_format=png", file)["masks"]
    polygon = post(http, "/v1/entities?mask_format=polygon", file)["masks"]
    assert len(rle) == len(png) == len(polygon) > 0
    for by_rle, by_png, by_polygon in zip(rle, png, polygon, strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(by_png["png_base64"])))
        np.testing.assert_array_equal(np.asarray(image), decode_mask(by_rle["rle"]))
        rings = [np.array(ring).reshape(-1, 2) for ring in by_polygon["polygon"]]
        area = sum(
            abs(np.dot(r[:, 0], np.roll(r[:, 1], -1)) - np.dot(r[:, 1], np.roll(r[:, 0], -1))) / 2 for r in rings
        )
        assert area == by_rle["area"]


def test_amg_is_an_option(http: httpx.Client) -> None:
    assert post(http, "/v1/entities?method=amg", picture_file(4))["masks"]


def test_points_reuse_the_embedding_of_an_image_sent_before(http: httpx.Client) -> None:
    file = picture_file(5)
    first = post(http, "/v1/entities", file)
    assert first["embedding_cache"] == "miss"
    prompt = {"point_coords": [[20, 30], [60, 40]], "point_labels": [1, 0], "box": [5, 5, 90, 60]}
    by_id = ok(http.post("/v1/points", json={**prompt, "image_id": first["image_id"]}))
    assert by_id["embedding_cache"] == "hit"
    resent = post(
        http, "/v1/points", file, point_coords="[[20, 30], [60, 40]]", point_labels="[1, 0]", box="[5, 5, 90, 60]"
    )
    assert resent["embedding_cache"] == "hit"
    assert resent["masks"] == by_id["masks"]
    ious = [mask["predicted_iou"] for mask in by_id["masks"]]
    assert ious == sorted(ious, reverse=True)
    best = ok(http.post("/v1/points", json={**prompt, "image_id": first["image_id"], "multimask_output": False}))
    assert best["masks"] == by_id["masks"][:1]


@pytest.mark.parametrize("first", ["/v1/entities", "/v1/classes?head=discs", "/v1/points"])
def test_an_image_is_encoded_once_whatever_is_asked_of_it(http: httpx.Client, first: str) -> None:
    file = picture_file(20 + len(first))

    def send(path: str) -> httpx.Response:
        data = {"point_coords": "[[20, 30]]"} if "points" in path else {}
        return http.post(path, files={"image": file}, data=data)

    assert ok(send(first))["embedding_cache"] == "miss"
    for path in ("/v1/entities", "/v1/classes?head=discs", "/v1/points", "/v1/entities?method=amg"):
        again = ok(send(path))
        assert again["embedding_cache"] == "hit", path
        repeated = send(path)
        assert ok(repeated)["masks"] == again["masks"]
        if "points" not in path:
            # The answer itself was kept, so nothing was worked out for it.
            stages = {part.partition(";")[0] for part in repeated.headers["server-timing"].split(", ")}
            assert stages.isdisjoint({"decode", "embed", "entities", "amg", "masks"}), path


def test_the_stages_of_a_request_add_up(http: httpx.Client) -> None:
    response = http.post("/v1/entities", files={"image": picture_file(40)})
    timing = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert set(timing) == {
        *("body", "parse", "decode", "embed", "encoder", "encoder_hop", "entities", "refiner", "graph_hops", "format")
    }
    assert all(float(value) >= 0 for value in timing.values())
    before_format = sum(float(value) for stage, value in timing.items() if stage != "format")
    assert before_format <= ok(response)["seconds"] * 1000 + 1


def test_what_one_key_has_sent_is_unknown_to_another(http: httpx.Client, service: RunningService) -> None:
    file = picture_file(41)
    image_id = post(http, "/v1/entities", file)["image_id"]
    with service.client(OTHER_API_KEY) as other:
        unknown = other.post("/v1/points", json={"image_id": image_id, "point_coords": [[3, 3]]})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "image_unknown")
        for path in ("/v1/entities", "/v1/classes?head=discs"):
            assert other.post(path, json={"image_id": image_id}).status_code == 404
        assert post(other, "/v1/entities", file)["embedding_cache"] == "miss"
        assert post(other, "/v1/entities", file)["embedding_cache"] == "hit"


def test_automatic_masks_of_a_large_image_are_refused_with_their_cost(http: httpx.Client) -> None:
    file = picture_file(42, (900, 600))
    response = http.post("/v1/entities?method=amg", files={"image": file})
    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_costly")
    for part in ("48 masks", "900 x 600", "0.0259 gigapixels", "method entities"):
        assert part in response.json()["error"]["message"]
    assert post(http, "/v1/entities", file)["masks"]


def test_a_click_finds_its_image_whichever_replica_keeps_it(http: httpx.Client) -> None:
    ids = [post(http, "/v1/entities", picture_file(100 + i, (40, 30)))["image_id"] for i in range(6)]
    for image_id in ids:
        answer = ok(http.post("/v1/points", json={"image_id": image_id, "point_coords": [[20, 15]]}))
        assert (answer["image_id"], answer["embedding_cache"]) == (image_id, "hit")


def test_an_unknown_image_is_said_so_and_answered_when_it_is_resent(http: httpx.Client) -> None:
    file = picture_file(6)
    image_id = hashlib.sha256(file).hexdigest()
    unknown = http.post("/v1/points", json={"image_id": image_id, "point_coords": [[3, 3]]})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "image_unknown")
    answer = post(http, "/v1/points", file, image_id=image_id, point_coords="[[3, 3]]")
    assert answer["embedding_cache"] == "miss"
    assert (
        ok(http.post("/v1/points", json={"image_id": image_id, "point_coords": [[3, 3]]}))["embedding_cache"] == "hit"
    )


def test_an_id_of_another_image_does_not_fool_the_service(http: httpx.Client) -> None:
    first = post(http, "/v1/entities", picture_file(7))
    other = picture_file(8)
    answer = post(http, "/v1/points", other, image_id=first["image_id"], point_coords="[[3, 3]]")
    assert answer["image_id"] == hashlib.sha256(other).hexdigest()


def test_classes_and_their_map(http: httpx.Client) -> None:
    file = picture_file(9)
    answer = post(http, "/v1/classes?head=discs", file)
    assert (answer["head"], answer["classes"]) == ("discs", list(CLASSES))
    assert answer["masks"]
    semantic = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["semantic_map"]["png_base64"]))))
    expected = np.zeros((64, 96), dtype=np.int64)
    for mask in sorted(answer["masks"], key=lambda mask: mask["score"]):
        assert mask["class_name"] == CLASSES[mask["class_id"]]
        assert 0 <= mask["uncertainty"] <= 1
        expected[decode_mask(mask["rle"])] = mask["class_id"] + 1
    np.testing.assert_array_equal(semantic, expected)
    assert "semantic_map" not in post(http, "/v1/classes?head=discs&semantic_map=false", file)


def test_a_higher_threshold_keeps_the_surer_masks(http: httpx.Client) -> None:
    file = picture_file(10)
    low = post(http, "/v1/classes?head=discs&score_thresh=0", file)["masks"]
    threshold = sorted(mask["score"] for mask in low)[len(low) // 2]
    high = post(http, f"/v1/classes?head=discs&score_thresh={threshold}", file)["masks"]
    # The threshold is one of the settings that ids depend on.
    without_id = [{**mask, "id": None} for mask in low if mask["score"] >= threshold]
    assert [{**mask, "id": None} for mask in high] == without_id


def test_a_new_class_set_needs_no_restart(http: httpx.Client, service: RunningService, tiny_sam: SamBackbone) -> None:
    before = {item["name"] for item in ok(http.get("/v1/heads"))["heads"]}
    write_head(service.heads, "arrived", tiny_sam)
    heads = {item["name"]: item for item in ok(http.get("/v1/heads"))["heads"]}
    assert set(heads) - before == {"arrived"}
    assert heads["arrived"]["usable"]
    assert post(http, "/v1/classes?head=arrived", picture_file(9))["head"] == "arrived"
    (service.heads / "arrived.safetensors").unlink()
    gone = http.post("/v1/classes?head=arrived", files={"image": picture_file(9)})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "head_unknown")


def test_a_class_set_of_another_model_says_so(http: httpx.Client) -> None:
    heads = {item["name"]: item for item in ok(http.get("/v1/heads"))["heads"]}
    assert not heads["of_another_model"]["usable"]
    assert not heads["damaged"]["usable"]
    for name, code in (("of_another_model", "head_mismatch"), ("damaged", "head_unusable")):
        response = http.post(f"/v1/classes?head={name}", files={"image": picture_file(9)})
        assert (response.status_code, response.json()["error"]["code"]) == (409, code)


def test_models_names_what_runs_and_its_limits(http: httpx.Client, service: RunningService) -> None:
    answer = ok(http.get("/v1/models"))
    assert answer["models"][0]["name"] == "vit_b"
    assert len(answer["models"][0]["weights_sha256"]) == 64
    assert answer["limits"]["max_pixels"] == service.args["limits"]["max_pixels"]


def test_probes_need_no_key(service: RunningService) -> None:
    with service.client(api_key=None) as http:
        assert ok(http.get("/healthz")) == {"status": "ok"}
        ready = ok(http.get("/readyz"))
        assert ready["status"] == "ready"
        assert set(ready["deployments"]) == {"Api", "Encoder", "Refiner", "Classifier"}
        assert http.get("/v1/models").status_code == 401
        assert http.post("/v1/entities", files={"image": picture_file(1)}).status_code == 401
    with service.client(api_key="wrong") as http:
        assert http.get("/v1/models").status_code == 401


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
def test_odd_sizes_are_answered(http: httpx.Client, size: tuple[int, int]) -> None:
    answer = post(http, "/v1/entities", picture_file(11, size))
    assert (answer["width"], answer["height"]) == size
    assert post(http, "/v1/points", picture_file(11, size), point_coords="[[0, 0]]")["width"] == size[0]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1", "I;16"])
def test_every_kind_of_image_is_answered(http: httpx.Client, mode: str) -> None:
    image = Image.new("I;16", (30, 20), 30_000) if mode == "I;16" else picture(12, (30, 20)).convert(mode)
    file = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    assert post(http, "/v1/entities", file)["width"] == 30


def test_requests_side_by_side_get_their_own_answers(http: httpx.Client, tiny_sam: SamBackbone) -> None:
    pictures = [picture(200 + i, (48, 32)) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        files = [encoded(image) for image in pictures]
        answers = list(pool.map(lambda file: post(http, "/v1/points", file, point_coords="[[24, 16]]"), files))
    alone = [
        segment_clicks(tiny_sam, tiny_sam.embed([np.asarray(image)])[0], ClickPrompt(((24.0, 16.0),), (1,)))
        for image in pictures
    ]
    expected = [[mask.predicted_iou for mask in labels.masks] for labels in alone]
    assert len({tuple(ious) for ious in expected}) == 4
    for answer, ious in zip(answers, expected, strict=True):
        # In a batch of another size sums are rounded in another order.
        assert [mask["predicted_iou"] for mask in answer["masks"]] == pytest.approx(ious, abs=1e-4)
