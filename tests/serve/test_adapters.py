"""Label Studio's and X-AnyLabeling's requests, as they send them."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from everymask.formats.label_studio import read_region
from everymask.masks.rle import decode_mask, encode_mask
from everymask.records import LabelledMask
from serve.adapters.x_anylabeling import PredictBody, _polygons
from tests.serve.local import local_service
from tests.serve.pictures import encoded, picture
from tests.serve.running_service import API_KEY, OTHER_API_KEY

SIZE_HW = (64, 96)
FILE = encoded(picture(60))
DATA_URI = "data:image/png;base64," + base64.b64encode(FILE).decode()


KEY = {"Authorization": f"Bearer {API_KEY}"}
TOKEN = {"Token": API_KEY}


class Client:
    """Requests to the service, each with the key."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def get(self, path: str) -> httpx.Response:
        return self._http.get(path, headers=KEY)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self._http.post(path, headers=KEY, **body)


@pytest.fixture
def http(local: httpx.Client) -> Client:
    return Client(local)


def ok(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def labelling(tag: str, labels: tuple[str, ...] = ("disc", "field"), extra: str = "") -> str:
    named = "".join(f'<Label value="{label}"/>' for label in labels)
    return f'<View><Image name="img" value="$image"/><{tag} name="tag" toName="img" {extra}>{named}</{tag}></View>'


def predict(http: Client, config: str, *images: str, context: Any = None) -> Any:
    tasks = [{"id": number, "data": {"image": image}, "annotations": []} for number, image in enumerate(images)]
    params = {"login": None, "password": None} | ({} if context is None else {"context": context})
    body = {"tasks": tasks, "project": "1.1700000000", "label_config": config, "params": params}
    response = http.post("/label-studio/predict", json=body)
    assert response.headers["content-type"] == "application/json"
    return ok(response)["results"]


def keypoint(x: float, y: float, positive: bool = True, label: str = "disc") -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 0.3, "keypointlabels": [label]}
    named = {"id": "a", "from_name": "clicks", "to_name": "img", "original_width": 96, "original_height": 64}
    return {**named, "type": "keypointlabels", "image_rotation": 0, "is_positive": positive, "value": value}


def pixels_of(region: dict[str, Any]) -> Any:
    """The mask of a brush or bitmask region."""
    return decode_mask(read_region(region, SIZE_HW))


def test_label_studio_finds_the_server_with_a_key_as_its_password(local: httpx.Client) -> None:
    assert local.get("/label-studio/health").status_code == 401
    assert local.get("/label-studio/health", auth=("anyone", "wrong")).status_code == 401
    healthy = local.get("/label-studio/health", auth=("anyone", API_KEY))
    assert ok(healthy) == {"status": "UP", "model_class": "everymask"}
    setup = {"project": "1.17", "schema": labelling("BrushLabels"), "hostname": "", "access_token": ""}
    assert "vit_b" in ok(local.post("/label-studio/setup", json=setup, auth=("", API_KEY)))["model_version"]


@pytest.mark.parametrize("tag", ["BrushLabels", "BitmaskLabels"])
def test_a_click_in_label_studio_is_a_click_of_ours(http: Client, tag: str) -> None:
    points = {"point_coords": [[48.0, 32.0], [90.0, 60.0]], "point_labels": [1, 0], "multimask_output": False}
    (ours,) = ok(http.post("/v1/points", json={"image_base64": DATA_URI.partition(",")[2], **points}))["masks"]
    context = {"result": [keypoint(50, 50), keypoint(93.75, 93.75, positive=False)]}
    (prediction,) = predict(http, labelling(tag), DATA_URI, context=context)
    (region,) = prediction["result"]
    assert (region["type"], region["from_name"], region["to_name"]) == (tag.lower(), "tag", "img")
    assert (region["original_width"], region["original_height"], region["image_rotation"]) == (96, 64, 0)
    assert region["value"][tag.lower()] == ["disc"]
    assert region["id"] == ours["id"]
    assert 0 <= region["score"] <= 1
    np.testing.assert_array_equal(pixels_of(region), decode_mask(ours["rle"]))


def test_an_image_that_label_studio_brought_is_known_to_the_keys_owner_alone(http: Client, local: httpx.Client) -> None:
    file = encoded(picture(61))
    predict(http, labelling("BrushLabels"), "data:image/png;base64," + base64.b64encode(file).decode())
    asked = {"image_id": hashlib.sha256(file).hexdigest(), "point_coords": [[48.0, 32.0]]}
    assert ok(http.post("/v1/points", json=asked))["embedding_cache"] == "hit"
    other = local.post("/v1/points", json=asked, headers={"Authorization": f"Bearer {OTHER_API_KEY}"})
    assert other.status_code == 404


@pytest.mark.parametrize("beyond", [(1e-7, 0.0), (0.0, 1e-7), (0.4, 0.4)])
def test_a_rectangle_is_a_box_even_at_the_border(http: Client, beyond: tuple[float, float]) -> None:
    body = {"image_base64": DATA_URI.partition(",")[2], "box": [48, 32, 96, 64], "multimask_output": False}
    (ours,) = ok(http.post("/v1/points", json=body))["masks"]
    value = {
        "x": 50,
        "y": 50,
        "width": 50 + beyond[0],
        "height": 50 + beyond[1],
        "rotation": 0,
        "rectanglelabels": ["field"],
    }
    context = {"result": [{"type": "rectanglelabels", "value": value}]}
    (prediction,) = predict(http, labelling("BrushLabels"), DATA_URI, context=context)
    (region,) = prediction["result"]
    assert region["value"]["brushlabels"] == ["field"]
    np.testing.assert_array_equal(pixels_of(region), decode_mask(ours["rle"]))
    corner = {"result": [keypoint(100, 100)]}
    assert predict(http, labelling("BrushLabels"), DATA_URI, context=corner)[0]["result"]


def test_without_a_context_there_are_entities(http: Client) -> None:
    ours = ok(http.post("/v1/entities", files={"image": FILE}))["masks"]
    (prediction,) = predict(http, labelling("BrushLabels", ("thing", "other")), DATA_URI)
    assert len(prediction["result"]) == len(ours) > 0
    for region, mask in zip(prediction["result"], ours, strict=True):
        assert (region["id"], region["value"]["brushlabels"]) == (mask["id"], ["thing"])
        np.testing.assert_array_equal(pixels_of(region), decode_mask(mask["rle"]))
    doubts = [1 - mask["score"] for mask in ours]
    assert prediction["score"] == pytest.approx(1 - (max(doubts) + sum(doubts) / len(doubts)) / 2)


@pytest.mark.parametrize(
    "config", [labelling("BrushLabels"), labelling("BrushLabels", ("disc", "sky"), 'head="discs"')]
)
def test_labels_that_a_class_set_knows_are_its_classes(http: Client, config: str) -> None:
    masks = ok(http.post("/v1/classes?head=discs", files={"image": FILE}))["masks"]
    ours = [mask for mask in masks if mask["class_name"] in ("disc", "field") and f'"{mask["class_name"]}"' in config]
    (prediction,) = predict(http, config, DATA_URI)
    named = [(region["id"], region["value"]["brushlabels"]) for region in prediction["result"]]
    assert named == [(mask["id"], [mask["class_name"]]) for mask in ours]
    assert named


def test_polygons_are_rings_in_percent(http: Client) -> None:
    (prediction,) = predict(http, labelling("PolygonLabels", ("thing",)), DATA_URI)
    ids = [region["id"] for region in prediction["result"]]
    assert len(set(ids)) == len(ids) > 1
    for region in prediction["result"]:
        points = np.array(region["value"]["points"])
        assert points.shape[1] == 2
        assert points.min() >= 0
        assert points.max() <= 100


def test_images_of_the_named_folder_are_read_and_others_say_why(http: Client, images_root: Path) -> None:
    config = labelling("BrushLabels", ("thing",))
    local, uploaded, outside, fetched = predict(
        http,
        config,
        *("/data/local-files/?d=upload/1/disc%20and%20field.png", "/data/upload/1/disc%20and%20field.png"),
        *("/data/local-files/?d=../secret.png", "http://127.0.0.1:1/secret.png"),
    )
    assert local["result"] == uploaded["result"] != []
    assert (outside["result"], fetched["result"]) == ([], [])
    assert "folder" in outside["error"]
    assert "not fetched" in fetched["error"]
    body = {"tasks": [{"data": {"image": "http://127.0.0.1:1/a.png"}}], "label_config": config}
    refused = http.post("/label-studio/predict", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"tasks": [{"data": {"image": DATA_URI}}]},
        {"tasks": [{"data": {"image": DATA_URI}}], "label_config": "<View/>"},
        {"tasks": [{"data": {}}], "label_config": labelling("BrushLabels")},
        {"tasks": [{"data": {"image": 5}}], "label_config": labelling("BrushLabels")},
        {"tasks": [{"data": {"image": "data:image/png;base64,AAAA"}}], "label_config": labelling("BrushLabels")},
        {"tasks": [{"data": {"image": DATA_URI}}] * 101, "label_config": labelling("BrushLabels")},
        {
            "tasks": [{"data": {"image": DATA_URI}}],
            "label_config": labelling("BrushLabels"),
            "params": {"context": {"result": [keypoint(200, 50)]}},
        },
    ],
)
def test_what_label_studio_must_not_send_is_422(http: Client, body: dict[str, Any]) -> None:
    response = http.post("/label-studio/predict", json=body)
    assert response.status_code == 422, response.text
    assert response.json()["error"]["message"]


def test_x_anylabeling_lists_models_by_its_token(local: httpx.Client) -> None:
    assert local.get("/x-anylabeling/v1/models").status_code == 401
    models = ok(local.get("/x-anylabeling/v1/models", headers=TOKEN))["data"]
    assert set(models) == {"points", "entities", "amg", "classes/discs"}
    assert models["classes/discs"]["classes"] == ["disc", "field"]
    assert models["points"]["batch_processing_mode"] is None
    widgets = {name: {widget["name"] for widget in model["widgets"]} for name, model in models.items()}
    assert widgets["entities"] == widgets["amg"]
    assert widgets["classes/discs"] - widgets["entities"] == {"button_classes_filter", "input_conf", "edit_conf"}


def shapes(local: httpx.Client, model: str, **params: Any) -> Any:
    body = {"model": model, "image": DATA_URI, "params": params}
    return ok(local.post("/x-anylabeling/v1/predict", json=body, headers=TOKEN))


def drawn(found: list[dict[str, Any]]) -> Any:
    canvas = Image.new("1", (SIZE_HW[1] * 8, SIZE_HW[0] * 8))
    for shape in found:
        ImageDraw.Draw(canvas).polygon([(x * 8, y * 8) for x, y in shape["points"]], fill=1)
    return np.asarray(canvas)[4::8, 4::8]


def test_marks_are_clicks_of_ours(http: Client, local: httpx.Client) -> None:
    body = {"image_base64": DATA_URI.partition(",")[2], "multimask_output": False}
    prompt = {"point_coords": [[48, 32], [90, 60]], "point_labels": [1, 0], "box": [10, 5, 90, 60]}
    (ours,) = ok(http.post("/v1/points", json={**body, **prompt}))["masks"]
    marks = [
        {"type": "point", "data": [48, 32], "label": 1},
        {"type": "point", "data": [90, 60], "label": 0},
        {"type": "rectangle", "data": [90, 60, 10, 5], "label": 1},
    ]
    data = shapes(local, "points", marks=marks, epsilon_factor=0)["data"]
    assert data["replace"] is False
    assert {shape["label"] for shape in data["shapes"]} == {"AUTOLABEL_OBJECT"}
    assert {shape["attributes"]["everymask_id"] for shape in data["shapes"]} == {ours["id"]}
    np.testing.assert_array_equal(drawn(data["shapes"]), decode_mask(ours["rle"]))


def test_entities_keep_their_parts_together(http: Client, local: httpx.Client) -> None:
    ours = {mask["id"]: mask for mask in ok(http.post("/v1/entities", files={"image": FILE}))["masks"]}
    data = shapes(local, "entities", epsilon_factor=0)["data"]
    assert data["replace"] is None
    by_id: dict[str, list[dict[str, Any]]] = {}
    for shape in data["shapes"]:
        by_id.setdefault(shape["attributes"]["everymask_id"], []).append(shape)
    assert set(by_id) == set(ours)
    for mask_id, parts in by_id.items():
        np.testing.assert_array_equal(drawn(parts), decode_mask(ours[mask_id]["rle"]))
        assert len({part["group_id"] for part in parts}) == 1
        assert (parts[0]["group_id"] is None) == (len(parts) == 1)
    assert shapes(local, "amg")["data"]["shapes"]


def labelled_mask(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> LabelledMask:
    ys, xs = np.nonzero(mask)
    box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
    return LabelledMask(encode_mask(mask), box, int(mask.sum()), 0.9, 0.9, (0.0, 0.0), 0.9)


def test_only_masks_of_several_parts_are_groups_each_of_its_own() -> None:
    body = PredictBody(model="entities", image=DATA_URI, params={"epsilon_factor": 0})
    square, bar = np.zeros((2, *SIZE_HW), dtype=np.bool_)
    square[4:20, 4:20] = True
    bar[30:40, 50:90] = True
    one, two, three = (
        _polygons(replace(labelled_mask(mask), mask_id=f"{number:07x}" + "0" * 17), body)
        for number, mask in enumerate((square, bar | square, np.fliplr(bar | square)), start=1)
    )
    assert [shape["group_id"] for shape in one] == [None]
    assert [shape["group_id"] for shape in two] == [2, 2]
    assert [shape["group_id"] for shape in three] == [3, 3]


def test_classes_follow_threshold_and_filter(local: httpx.Client) -> None:
    every = shapes(local, "classes/discs")["data"]["shapes"]
    labels = {shape["label"] for shape in every}
    assert labels <= {"disc", "field"}
    one = sorted(labels)[0]
    some = shapes(local, "classes/discs", filter_classes=[one])["data"]["shapes"]
    assert [shape["points"] for shape in some] == [shape["points"] for shape in every if shape["label"] == one]
    threshold = max(shape["score"] for shape in every)
    sure = shapes(local, "classes/discs", conf_threshold=threshold)["data"]["shapes"]
    assert {shape["score"] for shape in sure} == {threshold}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "sam", "image": DATA_URI}, 404),
        ({"model": "classes/cats", "image": DATA_URI}, 404),
        ({"model": "points", "image": DATA_URI}, 422),
        ({"model": "points", "image": "/data/local-files/?d=upload/1/disc and field.png"}, 422),
        ({"model": "points", "image": "http://127.0.0.1:1/a.png"}, 422),
        ({"model": "points", "image": DATA_URI, "params": {"marks": [{"type": "point", "data": [1]}]}}, 422),
        ({"model": "points", "image": DATA_URI, "params": {"marks": [{"type": "point", "data": [96, 1]}]}}, 422),
        ({"model": "entities", "image": "data:image/png;base64,AAAA"}, 422),
        ({"image": DATA_URI}, 422),
    ],
)
def test_what_x_anylabeling_must_not_send_is_refused(local: httpx.Client, body: Any, status: int) -> None:
    assert local.post("/x-anylabeling/v1/predict", json=body, headers=TOKEN).status_code == status


def test_the_adapters_are_off_unless_asked_for(adapted: dict[str, Any]) -> None:
    with local_service({**adapted, "label_studio": False, "x_anylabeling": False}, [API_KEY]) as plain:
        for path in ("/label-studio/health", "/x-anylabeling/v1/models"):
            assert plain.get(path, headers=KEY).status_code == 404
        for path in ("/label-studio/predict", "/x-anylabeling/v1/predict"):
            assert plain.post(path, headers=KEY, json={}).status_code == 404
