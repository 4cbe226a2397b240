"""Label Studio's SDK on our predictions; run by its own Python, see test_labelling_tools.py."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import requests
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface

CONFIG = """<View>
  <Image name="img" value="$image" smoothing="false"/>
  <{tag} name="tag" toName="img"><Label value="disc"/><Label value="other"/></{tag}>
  <KeyPointLabels name="clicks" toName="img" smart="true"><Label value="disc"/></KeyPointLabels>
</View>"""


def main(url: str, key: str, image: str, tag: str) -> dict[str, Any]:
    """Connect a project, and ask for pre-annotations and for a click, as Label Studio does."""
    server, config = f"{url}/label-studio", CONFIG.format(tag=tag)
    interface = LabelInterface(config)
    session = requests.Session()
    session.auth = ("label-studio", key)
    session.get(f"{server}/health", timeout=60).raise_for_status()
    setup = {"project": "7.1764100000", "schema": config, "hostname": "http://localhost:8080", "access_token": "t"}
    version = session.post(f"{server}/setup", json=setup, timeout=60).json()["model_version"]

    uri = "data:image/png;base64," + base64.b64encode(Path(image).read_bytes()).decode()
    # The SDK makes the annotator's click, so that its form is theirs and not our guess.
    (click,) = interface.create_regions({"clicks": {"label": ["disc"], "x": 50, "y": 50, "width": 0.3}})
    region = click._dict() | {"original_width": 96, "original_height": 64, "image_rotation": 0, "is_positive": True}

    def ask(context: dict[str, Any] | None) -> dict[str, Any]:
        params = {"login": None, "password": None, "context": context}
        body = {"tasks": [{"id": 1, "data": {"image": uri}}], "label_config": config, "project": "7", "params": params}
        answer = session.post(f"{server}/predict", json=body, timeout=120)
        answer.raise_for_status()
        (prediction,) = answer.json()["results"]
        assert prediction["model_version"] == version
        return {
            "errors": interface.validate_prediction(prediction, return_errors=True),
            "regions": len(prediction["result"]),
            "areas": [area(region) for region in prediction["result"]] if tag == "BrushLabels" else [],
            "ids": [region["id"] for region in prediction["result"]],
        }

    return {"everything": ask(None), "clicked": ask({"result": [region]}), "click": region}


def area(region: dict[str, Any]) -> int:
    """Pixels of a brush region, as Label Studio's own decoder sees them."""
    pixels = decode_rle(region["value"]["rle"])
    rgba = np.reshape(pixels, [region["original_height"], region["original_width"], 4])
    return int((rgba[:, :, 3] > 0).sum())


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
