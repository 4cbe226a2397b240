"""Bodies that are nearly right."""

from __future__ import annotations

import base64
import io
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from PIL import Image

_VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 1e308, -1e308, 10**400, 2**63, "", "x", "\0", "\ud800", [], [[]], {}, {"a": {}}, [None]),
    *("NaN", [1, 2, 3, 4], [[1, 2]], "a" * 3000, [[1, 2]] * 65),
]
_LABEL_CONFIG = (
    '<View><Image name="i" value="$image"/><BrushLabels name="m" toName="i"><Label value="thing"/></BrushLabels></View>'
)


@dataclass(frozen=True)
class Body:
    """One request.

    Attributes:
        path: with its query.
        content: the body.
        content_type: what its header says of it.
    """

    path: str
    content: bytes
    content_type: str


def _image() -> bytes:
    pixels = np.random.default_rng(3).integers(0, 255, (4, 4, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _right_bodies(image: bytes) -> list[tuple[str, Any]]:
    """Path and JSON of requests that are right."""
    encoded = base64.b64encode(image).decode()
    uri = f"data:image/png;base64,{encoded}"
    shape = {"x": 10, "y": 10, "width": 30, "height": 30, "rectanglelabels": ["thing"]}
    click = {"x": 50, "y": 50, "width": 1, "keypointlabels": ["thing"]}
    results = [
        {"type": "keypointlabels", "is_positive": True, "value": click},
        {"type": "rectanglelabels", "value": shape},
    ]
    marks = [{"type": "point", "data": [30, 30], "label": 1}, {"type": "rectangle", "data": [5, 5, 40, 40]}]
    task = {"tasks": [{"data": {"image": uri}}], "label_config": _LABEL_CONFIG}
    prompt = {"image_base64": encoded, "point_coords": [[30, 30]], "point_labels": [1], "box": [5, 5, 40, 40]}
    return [
        ("/v1/points", {**prompt, "multimask_output": False}),
        ("/v1/points?mask_format=polygon", {"image_id": "a" * 64, "image_base64": encoded, "point_coords": [[30, 30]]}),
        ("/v1/entities?min_region_area=4", {"image_base64": encoded}),
        ("/v1/classes?head=everyday", {"image_base64": encoded}),
        ("/label-studio/predict", {**task, "params": {"context": {"result": results}}}),
        ("/x-anylabeling/v1/predict", {"model": "points", "image": uri, "params": {"marks": marks}}),
    ]


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _places(value[key], (*place, key))


def _changed(body: Any, chance: random.Random) -> Any:
    """A copy in which some values are others, gone, or beside a new one."""
    body = json.loads(json.dumps(body))
    for _ in range(chance.choice([1, 1, 2, 4])):
        places = list(_places(body))
        if not places:
            break
        *way, last = chance.choice(places)
        part = body
        for key in way:
            part = part[key]
        kind = chance.random()
        if kind < 0.15 and isinstance(part, dict):
            del part[last]
        elif kind < 0.25 and isinstance(part, dict):
            part[f"x{last}"] = 1
        else:
            part[last] = json.loads(json.dumps(chance.choice(_VALUES)))
    return body


def _form(fields: dict[str, Any], image: bytes) -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://x", data=fields, files={"image": image})
    return request.read(), request.headers["content-type"]


def _scrambled(content: bytes, chance: random.Random) -> bytes:
    scrambled = bytearray(content)
    for _ in range(chance.choice([1, 5, 50])):
        scrambled[chance.randrange(len(scrambled))] = chance.randrange(256)
    return bytes(scrambled[: chance.choice([len(scrambled), len(scrambled), chance.randrange(len(scrambled))])])


def mutated_bodies(count: int, seed: int) -> Iterator[Body]:
    """JSON with other values, forms, damaged images, bytes changed at random, and bodies under another name."""
    chance = random.Random(seed)
    image = _image()
    right = _right_bodies(image)
    for _ in range(count):
        path, body = chance.choice(right)
        kind = chance.random()
        content_type = "application/json"
        if kind < 0.6:
            content = json.dumps(_changed(body, chance)).encode()
        elif kind < 0.7:
            content = json.dumps(body).replace("30", chance.choice(["NaN", "Infinity", "-0", "1e999"])).encode()
        elif kind < 0.8:
            content = _scrambled(json.dumps(body).encode(), chance)
        else:
            damaged = chance.choice([image, _scrambled(image, chance)])
            fields = {"point_coords": json.dumps(chance.choice([[[30, 30]], *_VALUES]))}
            content, content_type = _form(fields if chance.random() < 0.8 else {}, damaged)
            if chance.random() < 0.3:
                content = _scrambled(content, chance)
        if chance.random() < 0.05:
            content_type = chance.choice(["", "text/plain", "application/json; charset=utf-16", "multipart/form-data"])
        yield Body(path, content, content_type)


def send(http: httpx.Client, bodies: Iterator[Body]) -> tuple[Counter[int], list[str]]:
    """Ask everything.

    Returns:
        Answers by status, and a line for each that no body may bring about.
    """
    statuses: Counter[int] = Counter()
    faults: list[str] = []
    for body in bodies:
        headers = {"content-type": body.content_type} if body.content_type else {}
        answer = http.post(body.path, content=body.content, headers=headers)
        statuses[answer.status_code] += 1
        if answer.status_code >= 500 and not (answer.status_code == 503 and "retry-after" in answer.headers):
            faults.append(f"{answer.status_code} {body.path} {body.content_type} {body.content[:2000]!r}")
    return statuses, faults
