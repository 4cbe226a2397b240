"""The service and the labelling job answer alike, mask for mask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from everymask.backbone.sam import SamBackbone
from everymask.classes.head import load_head
from everymask.labelling.label import label_images
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels, LabelledMask
from serve.settings import read_settings
from tests.serve.pictures import encoded, picture
from tests.serve.running_service import REPOSITORY, RunningService

pytestmark = pytest.mark.serve

SIZES = [(96, 64), (64, 96), (150, 40)]


@pytest.fixture(scope="module")
def http(service: RunningService) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def assert_same(answer: dict[str, Any], masks: tuple[LabelledMask, ...], coverage: float) -> None:
    assert answer["coverage"] == pytest.approx(coverage)
    assert len(answer["masks"]) == len(masks) > 0
    for said, mask in zip(answer["masks"], masks, strict=True):
        assert said["rle"] == mask.rle
        x0, y0, x1, y1 = mask.box_xyxy
        assert said["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        if mask.mask_id is not None:
            assert said["id"] == mask.mask_id
        assert len(said["id"]) == 24
        assert (said["area"], said.get("class_id"), said.get("class_name")) == (
            mask.area,
            mask.class_id,
            mask.class_name,
        )
        numbers = ("score", "predicted_iou", "stability_score", "uncertainty", "agreement")
        for name in numbers:
            assert said.get(name) == pytest.approx(getattr(mask, name), abs=1e-5), name
        assert said["point_coords"] == pytest.approx(mask.point_coords)


@pytest.mark.parametrize("method", ["entities", "amg", "classes"])
def test_the_librarys_label_images_says_the_same(
    http: httpx.Client, service: RunningService, tiny_sam: SamBackbone, method: Any
) -> None:
    settings = read_settings(service.args)
    config = replace(settings.labels, method=method)
    head = load_head(service.heads / "discs.safetensors") if method == "classes" else None
    path = "/v1/classes?head=discs" if method == "classes" else f"/v1/entities?method={method}"
    for seed, size in enumerate(SIZES):
        image = picture(300 + seed, size)
        (labels,) = label_images(tiny_sam, [np.asarray(image)], config, head)
        assert isinstance(labels, ImageLabels)
        answer = http.post(path, files={"image": encoded(image)}).json()
        assert_same(answer, labels.masks, labels.coverage)


@pytest.mark.ray
def test_the_labelling_jobs_parquet_says_the_same(
    http: httpx.Client, service: RunningService, tiny_sam_checkpoint: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed, size in enumerate(SIZES):
        (photos / f"{seed}.png").write_bytes(encoded(picture(320 + seed, size)))
    entities = service.args["entities"]
    # Ray's sockets must have short paths.
    temporary = Path(tempfile.mkdtemp(prefix="em-", dir="/tmp"))
    try:
        subprocess.run(
            [
                *(
                    sys.executable,
                    "data_jobs/label_dataset.py",
                    "--input",
                    str(photos),
                    "--output",
                    str(tmp_path / "out"),
                ),
                *("--model", "vit_b", "--checkpoint", str(tiny_sam_checkpoint), "--device", "cpu"),
                *("--actors", "1", "--batch-size", "1", "--previews", "0"),
                *(f"--entities.{name.replace('_', '-')}={value}" for name, value in entities.items()),
            ],
            cwd=REPOSITORY,
            env={**os.environ, "RAY_TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
            check=True,
            timeout=280,
        )
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    rows = {row.image_id: row for row in LabelStore(str(tmp_path / "out")).images()}
    assert len(rows) == len(SIZES)
    for path in sorted(photos.iterdir()):
        answer = http.post("/v1/entities", files={"image": path.read_bytes()}).json()
        labels = rows[path.name].labels
        assert labels is not None
        assert_same(answer, labels.masks, labels.coverage)
        assert answer["image_id"] == rows[path.name].content_sha256
