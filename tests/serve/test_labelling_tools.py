"""The labelling tools' own code against the real service, each in a process and an environment of its own.

Their packages need other versions than ours, and X-AnyLabeling is under the GPL, so each has one of its own:
`make readers`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.machine import READERS, readers_folder, skip_without
from tests.serve.pictures import picture_file
from tests.serve.running_service import API_KEY, REPOSITORY, RunningService

pytestmark = [pytest.mark.serve, pytest.mark.slow]

LABEL_STUDIO, X_ANYLABELING = "datasets", "tools"
"""The environments that hold them."""


def run_client(environment: str, script: str, **values: Any) -> Any:
    """What a script of tests/serve/clients answers, in JSON on its last line."""
    python = readers_folder() / environment / "bin/python"
    if not python.exists():
        skip_without(READERS)
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        [python, REPOSITORY / "tests/serve/clients" / script, json.dumps(values)],
        env={**plain, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads(finished.stdout.splitlines()[-1])


def test_x_anylabelings_remote_server_shows_our_shapes(prefixed: RunningService, tmp_path: Path) -> None:
    image = tmp_path / "photo.png"
    image.write_bytes(picture_file(70))
    answer = run_client(X_ANYLABELING, "x_anylabeling.py", url=prefixed.url, key=API_KEY, image=str(image))
    assert answer["messages"] == []
    assert set(answer["models"]) == {"points", "entities", "amg", "classes/discs"}
    for model in ("points", "entities", "classes/discs"):
        assert answer["shapes"][model], model
        for shape in answer["shapes"][model]:
            assert shape["shape_type"] == "polygon"
            assert len(shape["points"]) >= 3
            assert len(shape["attributes"]["everymask_id"]) == 24
    assert answer["wrong_key"] == {"models": {}, "shapes": 0}


@pytest.mark.parametrize("tag", ["BrushLabels", "PolygonLabels"])
def test_label_studios_sdk_takes_our_predictions(prefixed: RunningService, tmp_path: Path, tag: str) -> None:
    file = picture_file(71)
    image = tmp_path / "photo.png"
    image.write_bytes(file)
    answer = run_client(LABEL_STUDIO, "label_studio.py", url=prefixed.url, key=API_KEY, image=str(image), tag=tag)
    with prefixed.client() as http:
        entities = http.post("/v1/entities", files={"image": file}).json()["masks"]
        prompt = {"point_coords": "[[48, 32]]", "multimask_output": "false"}
        clicked = http.post("/v1/points", files={"image": file}, data=prompt).json()["masks"]
    for asked, masks in (("everything", entities), ("clicked", clicked)):
        assert answer[asked]["errors"] == []
        assert {region.partition("-")[0] for region in answer[asked]["ids"]} == {mask["id"] for mask in masks}
        if tag == "BrushLabels":
            assert answer[asked]["areas"] == [mask["area"] for mask in masks]
