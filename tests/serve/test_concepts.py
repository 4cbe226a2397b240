"""Names answered by SAM 3: the masks that a job gives them, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from everymask.backbone.registry import load_backbone
from everymask.classes.config import ConceptsConfig
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


def test_a_model_without_concepts_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="model nano knows no concepts; set `model: sam3`, or leave"):
        read_settings({"concepts": {}})
