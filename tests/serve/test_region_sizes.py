"""Sizes of regions, by the settings and by a request: the library's masks, from answers that are kept whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from everymask.backbone.sam import SamBackbone
from everymask.classes.head import load_head
from everymask.labelling.label import label_images
from everymask.labelling.settings import label_settings
from everymask.labels.mask_ids import settings_digest, with_mask_ids
from everymask.records import ImageLabels
from serve.settings import ServiceSettings, read_settings
from tests.serve.local import local_service
from tests.serve.pictures import encoded, picture
from tests.serve.running_service import API_KEY

IMAGE = picture(80, (96, 64))
FILE = encoded(IMAGE)
KEY = {"Authorization": f"Bearer {API_KEY}"}
PATHS = {
    "entities": "/v1/entities?method=entities",
    "amg": "/v1/entities?method=amg",
    "classes": "/v1/classes?head=discs",
}
SERVICES_OWN = {"min_region_area": 10, "max_region_area": 6000}


@pytest.fixture(scope="module")
def limited(adapted: dict[str, Any]) -> Iterator[httpx.Client]:
    """A service whose settings limit the sizes."""
    with local_service(adapted | SERVICES_OWN, [API_KEY]) as client:
        yield client


def ask(client: httpx.Client, path: str, **sizes: int) -> httpx.Response:
    query = "".join(f"&{name}={value}" for name, value in sizes.items())
    return client.post(path + query, files={"image": FILE}, headers=KEY)


def of_library(settings: ServiceSettings, model: SamBackbone, method: Any, **sizes: int) -> ImageLabels:
    config = replace(settings.labels, method=method, **sizes)
    path = settings.head_folders[0] / "discs.safetensors"
    head = load_head(path) if method == "classes" else None
    (labels,) = label_images(model, [np.asarray(IMAGE)], config, head)
    assert isinstance(labels, ImageLabels)
    of_head = () if head is None else (hashlib.sha256(path.read_bytes()).hexdigest(), head.spec.classes)
    made_by = label_settings(config, model.name, model.weights_sha256, *of_head)
    return with_mask_ids(labels, hashlib.sha256(FILE).hexdigest(), settings_digest(made_by))


def assert_same(response: httpx.Response, labels: ImageLabels) -> None:
    assert response.status_code == 200, response.text
    answer = response.json()
    assert [(mask["id"], mask["rle"], mask["area"]) for mask in answer["masks"]] == [
        (mask.mask_id, mask.rle, mask.area) for mask in labels.masks
    ]
    assert answer["coverage"] == pytest.approx(labels.coverage)


@pytest.mark.parametrize("method", PATHS)
def test_a_request_gets_the_sizes_it_asks_for(
    local: httpx.Client, adapted: dict[str, Any], tiny_sam: SamBackbone, method: str
) -> None:
    settings = read_settings(adapted)
    everything = of_library(settings, tiny_sam, method)
    assert_same(ask(local, PATHS[method]), everything)
    without_specks = of_library(settings, tiny_sam, method, min_region_area=10)
    assert [mask.area for mask in without_specks.masks] != [mask.area for mask in everything.masks]
    assert_same(ask(local, PATHS[method], min_region_area=10), without_specks)
    largest = max(mask.area for mask in everything.masks)
    smaller = of_library(settings, tiny_sam, method, max_region_area=largest - 1)
    assert len(smaller.masks) < len(everything.masks)
    limited = ask(local, PATHS[method], max_region_area=largest - 1)
    assert_same(limited, smaller)
    # What is kept has masks of any size, so nothing was worked out again.
    stages = {part.partition(";")[0] for part in limited.headers["server-timing"].split(", ")}
    assert "sizes" in stages
    assert stages.isdisjoint({"embed", "entities", "amg", "masks"})


def test_the_services_own_sizes_hold_unless_a_request_says_otherwise(
    limited: httpx.Client, adapted: dict[str, Any], tiny_sam: SamBackbone
) -> None:
    settings = read_settings(adapted)
    path = PATHS["entities"]
    assert_same(ask(limited, path), of_library(settings, tiny_sam, "entities", **SERVICES_OWN))
    asked = SERVICES_OWN | {"min_region_area": 0}
    assert_same(ask(limited, path, min_region_area=0), of_library(settings, tiny_sam, "entities", **asked))


def test_an_area_larger_than_any_image_leaves_nothing(local: httpx.Client) -> None:
    answer = ask(local, PATHS["entities"], min_region_area=10**30).json()
    assert (answer["masks"], answer["coverage"]) == ([], 0)


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"min_region_area": -1}, "min_region_area"),
        ({"max_region_area": 0}, "max_region_area"),
        ({"min_region_area": 50, "max_region_area": 49}, "at least min_region_area; got 49"),
    ],
)
@pytest.mark.parametrize("path", [PATHS["entities"], PATHS["classes"]])
def test_sizes_that_cannot_be_are_refused(local: httpx.Client, path: str, sizes: dict[str, int], named: str) -> None:
    response = ask(local, path, **sizes)
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["code"] == "invalid_request"
    assert named in error["message"]
