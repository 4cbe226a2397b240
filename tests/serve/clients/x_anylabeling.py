"""X-AnyLabeling's `RemoteServer` against our service; run by its own Python, see test_labelling_tools.py."""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import anylabeling.config
from anylabeling.services.auto_labeling.remote_server import RemoteServer
from PyQt6.QtGui import QImage
from PyQt6.QtWidgets import QApplication


def main(url: str, key: str, image: str) -> dict[str, Any]:
    """Ask for models and for shapes of each kind, with the right key and with a wrong one."""
    application = QApplication([])
    messages: list[str] = []
    picture = QImage(image)
    server = remote(url, key, messages)
    models = list(server.get_available_models())
    shapes = {}
    for model in models:
        server.set_model_id(model)
        marks = [{"type": "point", "data": [picture.width() / 2, picture.height() / 2], "label": 1}]
        server.set_auto_labeling_marks(marks if model == "points" else [])
        shapes[model] = [as_json(shape) for shape in server.predict_shapes(picture, image).shapes]
    # The same again without a file beside it, as for an image that was pasted.
    server.set_model_id("entities")
    pasted = [as_json(shape) for shape in server.predict_shapes(picture, None).shapes]
    stranger = remote(url, "wrong", [])
    stranger.set_model_id("entities")
    wrong = {
        "models": stranger.get_available_models(),
        "shapes": len(stranger.predict_shapes(picture, image).shapes),
    }
    application.quit()
    return {"models": models, "shapes": shapes, "pasted": len(pasted), "messages": messages, "wrong_key": wrong}


def remote(url: str, key: str, messages: list[str]) -> RemoteServer:
    """The client, set up by its user's configuration file."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        settings = {"server_url": f"{url}/x-anylabeling", "api_key": key}
        json.dump({"remote_server_settings": settings}, file)
        file.flush()
        anylabeling.config.current_config_file = file.name
        model = {"type": "remote_server", "name": "remote_server", "display_name": "Remote-Server", "timeout": 120}
        return RemoteServer(model, messages.append)


def as_json(shape: Any) -> dict[str, Any]:
    """What a shape holds once the client has taken it in."""
    return {
        "label": shape.label,
        "shape_type": shape.shape_type,
        "points": [[point.x(), point.y()] for point in shape.points],
        "attributes": shape.attributes,
        "group_id": shape.group_id,
        "score": shape.score,
    }


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
