"""Names without a class head, by SAM + CLIP; and heads that read crops, which need no setting."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from everymask.backbone.sam import SamBackbone
from everymask.classes.config import ClipConfig, ConceptsConfig, MaskConfig
from everymask.classes.head import load_head, save_head
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.labelling.settings import label_settings
from everymask.labels.mask_ids import settings_digest, with_mask_ids
from everymask.records import ImageLabels
from serve.names import NamesMethod, config_by_names
from serve.settings import read_settings
from serve.tasks import NamesTask
from tests.classes.tiny_clip import save_tiny_clip
from tests.serve.local import local_service
from tests.serve.pictures import encoded, picture
from tests.serve.running_service import API_KEY, write_head

IMAGE = picture(80, (96, 64))
FILE = encoded(IMAGE)
KEY = {"Authorization": f"Bearer {API_KEY}"}
NAMES = ("cat", "dog")
MASKS = {"points_per_side": 4}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipConfig:
    model = save_tiny_clip(tmp_path_factory.mktemp("clip"))
    return ClipConfig(model=str(model), score_thresh=0.05, masks=MaskConfig(**MASKS))


@pytest.fixture(scope="module")
def client(
    adapted: dict[str, Any], clip: ClipConfig, tiny_sam: SamBackbone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    heads = tmp_path_factory.mktemp("heads")
    write_looking_head(heads, tiny_sam)
    settings = {"model": clip.model, "score_thresh": clip.score_thresh, "masks": MASKS}
    with local_service(adapted | {"clip": settings, "heads": str(heads)}, [API_KEY]) as client:
        yield client


def write_looking_head(folder: Path, model: SamBackbone) -> Path:
    """A head that reads crops, and takes nothing for background."""
    path = folder / "looking.safetensors"
    write_head(folder, "looking", model, features="token+crop")
    head = load_head(path)
    with torch.no_grad():
        [module for module in head.modules() if isinstance(module, torch.nn.Linear)][-1].bias[-1] -= 9
    save_head(head, path)
    return path


def ask(client: httpx.Client, query: str) -> httpx.Response:
    return client.post(f"/v1/classes?{query}", files={"image": FILE}, headers=KEY)


def of_library(
    model: SamBackbone, config: LabelConfig, names: tuple[str, ...], head: Path | None = None
) -> ImageLabels:
    loaded = None if head is None else load_head(head)
    (labels,) = label_images(model, [np.asarray(IMAGE)], config, loaded)
    assert isinstance(labels, ImageLabels)
    head_sha256 = None if head is None else hashlib.sha256(head.read_bytes()).hexdigest()
    made_by = label_settings(config, model.name, model.weights_sha256, head_sha256, names)
    return with_mask_ids(labels, hashlib.sha256(FILE).hexdigest(), settings_digest(made_by))


@pytest.mark.parametrize("method", ["clip", "concepts"])
@pytest.mark.parametrize(("asked", "used"), [(None, 0.4), (0.3, 0.3), (0.0, 0.0)])
def test_the_least_score_is_the_requests_or_else_the_services(
    method: NamesMethod, asked: float | None, used: float
) -> None:
    labels = LabelConfig(clip=ClipConfig(score_thresh=0.4), concepts=ConceptsConfig(score_thresh=0.4))
    config = config_by_names(labels, method, NamesTask(NAMES, asked))
    assert config.method == method
    assert (config.clip if method == "clip" else config.concepts).score_thresh == used


def test_names_get_the_masks_that_a_job_gives_them(
    client: httpx.Client, clip: ClipConfig, tiny_sam: SamBackbone
) -> None:
    config = LabelConfig("clip", clip=ClipConfig(NAMES, clip.model, score_thresh=0.05, masks=clip.masks))
    labels = of_library(tiny_sam, config, NAMES)
    assert labels.masks
    response = ask(client, "names=cat, dog")
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["classes"] == ["cat", "dog"]
    assert "head" not in answer
    assert [(mask["id"], mask["rle"], mask["class_name"]) for mask in answer["masks"]] == [
        (mask.mask_id, mask.rle, mask.class_name) for mask in labels.masks
    ]
    # Other names are another question, not the kept answer.
    other = ask(client, "names=dog,cat").json()
    assert other["classes"] == ["dog", "cat"]
    assert [mask["class_id"] for mask in other["masks"]] == [1 - mask["class_id"] for mask in answer["masks"]]


@pytest.mark.parametrize("prompt", ["cat, dog", "cat.dog."])
def test_x_anylabeling_asks_for_names_in_its_text_field(client: httpx.Client, prompt: str) -> None:
    token = {"Token": API_KEY}
    models = client.get("/x-anylabeling/v1/models", headers=token).json()["data"]
    assert models["names"]["batch_processing_mode"] == "text_prompt"
    image = "data:image/png;base64," + base64.b64encode(FILE).decode()
    body = {"model": "names", "image": image, "params": {"text_prompt": prompt}}
    response = client.post("/x-anylabeling/v1/predict", json=body, headers=token)
    assert response.status_code == 200, response.text
    ours = ask(client, "names=cat,dog").json()["masks"]
    found = {(shape["attributes"]["everymask_id"], shape["label"]) for shape in response.json()["data"]["shapes"]}
    assert found == {(mask["id"], mask["class_name"]) for mask in ours}
    lonely = client.post("/x-anylabeling/v1/predict", json={"model": "names", "image": image}, headers=token)
    assert lonely.status_code == 422
    assert "give 2 to" in lonely.text


def test_a_head_that_reads_crops_needs_no_setting(
    client: httpx.Client, adapted: dict[str, Any], tiny_sam: SamBackbone, tmp_path: Path
) -> None:
    head = write_looking_head(tmp_path, tiny_sam)
    config = LabelConfig("classes", classes=read_settings(adapted).labels.classes)
    labels = of_library(tiny_sam, config, load_head(head).spec.classes, head)
    assert labels.masks
    response = ask(client, "head=looking")
    assert response.status_code == 200, response.text
    assert [mask["rle"] for mask in response.json()["masks"]] == [mask.rle for mask in labels.masks]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("names=cat", "give 2 to 100"),
        ("names=", "give 2 to 100"),
        ("names=" + ",".join(f"n{i}" for i in range(101)), "got 101"),
        ("names=cat,cat", "must be different"),
        ("names=cat,,dog", "not empty"),
        ("names=cat,dog&head=looking", "not both"),
        ("", "give head"),
    ],
)
def test_names_that_are_of_no_use_are_one_sentence(client: httpx.Client, query: str, message: str) -> None:
    response = ask(client, query)
    assert response.status_code == 422, response.text
    assert message in response.json()["error"]["message"]


def test_a_hundred_names_are_answered(client: httpx.Client) -> None:
    names = [f"n{number}" for number in range(100)]
    response = ask(client, "names=" + ",".join(names))
    assert response.status_code == 200, response.text
    assert response.json()["classes"] == names


def test_a_name_that_clip_cannot_read_is_named(client: httpx.Client) -> None:
    response = ask(client, "names=cat," + "x" * 99)
    assert response.status_code == 422
    assert f"the class name '{'x' * 40}' is too long for CLIP" in response.json()["error"]["message"]


def test_boxes_are_examples_for_sam3_alone(client: httpx.Client) -> None:
    body = {"image_base64": base64.b64encode(FILE).decode(), "example_boxes": [[4, 6, 40, 60]]}
    response = client.post("/v1/classes", json=body, headers=KEY)
    assert response.status_code == 422
    assert "set `concepts` in the service's configuration (with `model: sam3`)" in response.json()["error"]["message"]
    assert client.get("/v1/models", headers=KEY).json()["names_by"] == "clip"


def test_without_a_clip_model_it_is_said_how_to_get_one(local: httpx.Client) -> None:
    response = ask(local, "names=cat,dog")
    assert response.status_code == 422
    assert "set `concepts` in its configuration (with `model: sam3`) or `clip`" in response.json()["error"]["message"]
