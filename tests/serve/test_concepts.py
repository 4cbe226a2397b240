"""Names answered by SAM 3: the masks that a job gives them, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from everymask.backbone.registry import load_backbone
from everymask.classes.concepts import load_concepts, segment_alike
from everymask.classes.config import ConceptsConfig
from everymask.classes.examples import ExamplePrompt
from everymask.errors import ConfigurationError
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.labelling.names import with_names
from everymask.labelling.settings import label_settings
from everymask.labels.mask_ids import settings_digest, with_mask_ids
from everymask.records import ImageLabels
from serve.settings import read_settings
from tests.backbone.sam3.tiny import save_tiny_sam3
from tests.serve.local import local_service
from tests.serve.pictures import encoded, picture
from tests.serve.running_service import API_KEY

IMAGE = picture(80, (96, 64))
FILE = encoded(IMAGE)
KEY = {"Authorization": f"Bearer {API_KEY}"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sam3(tmp_path_factory.mktemp("sam3"))


@pytest.fixture(scope="module")
def client(weights: Path) -> Iterator[httpx.Client]:
    settings = {"model": "sam3", "checkpoint": str(weights), "device": "cpu", "concepts": {"score_thresh": 0.2}}
    with local_service(settings, [API_KEY]) as client:
        yield client


def ask(client: httpx.Client, query: str) -> httpx.Response:
    return client.post(f"/v1/classes?{query}", files={"image": FILE}, headers=KEY)


def of_library(weights: Path, names: str, thresh: float) -> ImageLabels:
    model = load_backbone("sam3", weights, "cpu")
    config = with_names(LabelConfig("concepts", concepts=ConceptsConfig(score_thresh=thresh)), names)
    (labels,) = label_images(model, [np.asarray(IMAGE)], config)
    assert isinstance(labels, ImageLabels)
    made_by = label_settings(config, model.name, model.weights_sha256, class_names=config.concepts.class_names)
    return with_mask_ids(labels, hashlib.sha256(FILE).hexdigest(), settings_digest(made_by))


@pytest.mark.parametrize("names", ["cat", "animals=cat+dog,bus,-toy bus"])
def test_names_get_the_masks_that_a_job_gives_them(client: httpx.Client, weights: Path, names: str) -> None:
    labels = of_library(weights, names, 0.2)
    assert labels.masks
    response = client.post("/v1/classes", params={"names": names}, files={"image": FILE}, headers=KEY)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["classes"] == (["cat"] if names == "cat" else ["animals", "bus"])
    assert answer["presence"] == pytest.approx(labels.presence)
    assert [(mask["id"], mask["rle"], mask["class_name"]) for mask in answer["masks"]] == [
        (mask.mask_id, mask.rle, mask.class_name) for mask in labels.masks
    ]
    assert all("predicted_iou" not in mask for mask in answer["masks"])
    surer = client.post("/v1/classes", params={"names": names, "score_thresh": 1}, files={"image": FILE}, headers=KEY)
    assert surer.json()["masks"] == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("names=", "one of the names is empty"),
        ("names=" + ",".join(f"n{i}" for i in range(101)), "at most 100 names are answered; got 101"),
        ("names=cat,Cat", "'cat' and 'Cat' are the same but for case and spaces"),
        ("names=" + "x" * 99, "has 101 tokens with the two marks around it, SAM 3 reads 32"),
        ("names=/etc/passwd.txt", "names no folder"),
        ("names=cat&head=pets", "not both"),
    ],
)
def test_names_that_are_of_no_use_are_one_sentence(client: httpx.Client, query: str, message: str) -> None:
    response = ask(client, query)
    assert response.status_code == 422, response.text
    assert message in response.json()["error"]["message"]


BOX = [4.0, 6.0, 40.0, 60.0]


def of_boxes(weights: Path, names: tuple[str, ...], shown: tuple[bool, ...]) -> ImageLabels:
    model = load_backbone("sam3", weights, "cpu")
    config = ConceptsConfig(names, score_thresh=0.2)
    load_concepts(model, config)
    (embedding,) = model.embed([np.asarray(IMAGE)])
    box = (BOX[0], BOX[1], BOX[2], BOX[3])
    return segment_alike(model, embedding, ExamplePrompt((box,) * len(shown), shown), config)


@pytest.mark.parametrize(("query", "names"), [("", ()), ("names=cat", ("cat",))])
def test_boxes_are_examples_in_json_and_in_a_form_alike(
    client: httpx.Client, weights: Path, query: str, names: tuple[str, ...]
) -> None:
    labels = of_boxes(weights, names, (True, False))
    assert labels.masks
    body = {"image_base64": base64.b64encode(FILE).decode(), "example_boxes": [BOX, BOX], "example_labels": [1, 0]}
    as_json = client.post(f"/v1/classes?{query}", json=body, headers=KEY)
    fields = {"example_boxes": json.dumps([BOX, BOX]), "example_labels": "[1, 0]"}
    as_form = client.post(f"/v1/classes?{query}", data=fields, files={"image": FILE}, headers=KEY)
    assert as_json.status_code == 200, as_json.text
    answer = as_json.json()
    assert answer["masks"] == as_form.json()["masks"]
    assert answer["classes"] == list(names or ("example",))
    assert [mask["rle"] for mask in answer["masks"]] == [mask.rle for mask in labels.masks]
    assert answer["presence"] == pytest.approx(labels.presence)
    # By the id alone, and with every box meant, it is another question.
    again = client.post(
        f"/v1/classes?{query}", json={"image_id": answer["image_id"], "example_boxes": [BOX]}, headers=KEY
    )
    assert [mask["rle"] for mask in again.json()["masks"]] == [
        mask.rle for mask in of_boxes(weights, names, (True,)).masks
    ]


@pytest.mark.parametrize(
    ("query", "fields", "message"),
    [
        ("", {"example_boxes": [[50, 6, 999, 60]]}, "reaches outside the image of 96 x 64 pixels"),
        ("", {"example_boxes": [[40, 6, 4, 60]]}, "is empty; give (x0, y0, x1, y1)"),
        ("", {"example_boxes": [[4, 6, 40]]}, "at least 4 items"),
        ("", {"example_boxes": []}, "at least 1 item"),
        ("", {"example_boxes": [BOX], "example_labels": [0]}, "no box is an example of what is meant"),
        ("", {"example_boxes": [BOX], "example_labels": [1, 1]}, "got 1 box and 2 labels"),
        ("names=cat", {"example_labels": [1]}, "example_labels are of example_boxes"),
        ("names=cat,dog", {"example_boxes": [BOX]}, "boxes are examples of one name, or of none; got cat, dog"),
        ("names=" + "x" * 99, {"example_boxes": [BOX]}, "has 101 tokens"),
        ("head=pets", {"example_boxes": [BOX]}, "in place of head"),
        ("", {}, "give head"),
    ],
)
def test_boxes_that_are_of_no_use_are_one_sentence(
    client: httpx.Client, query: str, fields: dict[str, object], message: str
) -> None:
    body = {"image_base64": base64.b64encode(FILE).decode(), **fields}
    response = client.post(f"/v1/classes?{query}", json=body, headers=KEY)
    assert response.status_code == 422, response.text
    assert message in response.json()["error"]["message"]


def test_the_service_says_what_answers_names(client: httpx.Client) -> None:
    assert client.get("/v1/models", headers=KEY).json()["names_by"] == "concepts"


def test_a_model_without_concepts_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="model nano knows no concepts; set `model: sam3`, or leave"):
        read_settings({"concepts": {}})
