from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from everymask.backbone.sam import SamBackbone
from tests.serve.local import local_service
from tests.serve.pictures import encoded, picture
from tests.serve.running_service import API_KEY, COARSE, OTHER_API_KEY, RunningService, start_service, write_head


@pytest.fixture(scope="package")
def images_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that Label Studio's tasks may name images in."""
    folder = tmp_path_factory.mktemp("outside") / "images"
    (folder / "upload/1").mkdir(parents=True)
    (folder / "upload/1/disc and field.png").write_bytes(encoded(picture(50)))
    (folder.parent / "secret.png").write_bytes(encoded(picture(51)))
    return folder


@pytest.fixture(scope="package")
def adapted(
    tiny_sam_checkpoint: Path, tiny_sam: SamBackbone, images_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Settings with the adapters for labelling tools, and little time for bodies."""
    heads = tmp_path_factory.mktemp("heads")
    write_head(heads, "discs", tiny_sam)
    return {
        "model": "vit_b",
        "checkpoint": str(tiny_sam_checkpoint),
        "device": "cpu",
        "heads": str(heads),
        "requests": {"body_limit_s": 2},
        **COARSE,
        "label_studio": True,
        "x_anylabeling": True,
        "images_root": str(images_root),
        "server_timing": True,
    }


@pytest.fixture(scope="package")
def prefixed(adapted: dict[str, Any]) -> Iterator[RunningService]:
    """The real service under a route prefix, with the adapters."""
    with start_service(adapted, Path(adapted["heads"]), route_prefix="/mask") as running:
        yield running


@pytest.fixture(scope="package")
def local(adapted: dict[str, Any]) -> Iterator[httpx.Client]:
    """The service in this process, with the adapters; requests bring their own key."""
    with local_service(adapted, [API_KEY, OTHER_API_KEY]) as client:
        yield client
