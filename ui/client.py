"""The service over HTTP, and its refusals in plain words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

import httpx

Json = dict[str, Any]

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 120.0
"""For a service that does not answer; the service reports its own, shorter time limit itself."""


class ServiceProblem(Exception):
    """The service is down, busy, or refuses; the message is for the page's user."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Prompt:
    """Clicks (x, y) in image pixels with labels 1 (on the object) or 0, and a box (x0, y0, x1, y1) or None."""

    points: list[list[float]]
    labels: list[int]
    box: list[float] | None


class ServiceClient:
    """One service. Safe to share between threads."""

    def __init__(self, endpoint: str, api_key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self.endpoint = endpoint.rstrip("/")
        self._http = httpx.Client(base_url=self.endpoint, headers=headers, timeout=timeout)

    def entities(self, image: bytes, method: str) -> Json:
        """`POST /v1/entities`."""
        return self._send("POST", "/v1/entities", params={"method": method}, files={"image": image})

    def classes(self, image: bytes, head: str) -> Json:
        """`POST /v1/classes`."""
        return self._send("POST", "/v1/classes", params={"head": head}, files={"image": image})

    def names(self, image: bytes, names: str) -> Json:
        """`POST /v1/classes` of names, `cat,dog`."""
        return self._send("POST", "/v1/classes", params={"names": names}, files={"image": image})

    def points(self, image: bytes, image_id: str, prompt: Prompt) -> Json:
        """`POST /v1/points` by the image's id, which is quick; with the image if the service asks for it."""
        fields: Json = {"point_coords": prompt.points, "point_labels": prompt.labels, "box": prompt.box}
        try:
            return self._send("POST", "/v1/points", json={**fields, "image_id": image_id})
        except ServiceProblem as problem:
            if problem.code != "image_unknown":
                raise
        form = {name: json.dumps(value) for name, value in fields.items() if value is not None}
        return self._send("POST", "/v1/points", data=form, files={"image": image})

    def heads(self) -> Json:
        """`GET /v1/heads`: `heads` and their `folders`."""
        return self._send("GET", "/v1/heads")

    def running(self) -> Json:
        """`GET /v1/models`: the running model, and what answers names."""
        return self._send("GET", "/v1/models")

    def _send(self, method: str, path: str, **options: Any) -> Json:
        try:
            response = self._http.request(method, path, **options)
        except httpx.ConnectError:
            raise ServiceProblem(f"The service does not answer at {self.endpoint}. Is it running?") from None
        except httpx.TimeoutException:
            raise ServiceProblem("The service took too long to answer. Try again, or try a smaller image.") from None
        except httpx.HTTPError as error:
            raise ServiceProblem(f"The connection to the service broke ({type(error).__name__}). Try again.") from None
        try:
            answer = response.json()
        except ValueError:
            raise ServiceProblem(f"{self.endpoint} answered, but not as this service does.") from None
        if response.is_success:
            return cast(Json, answer)
        raise _problem(response, answer)


def _problem(response: httpx.Response, answer: Any) -> ServiceProblem:
    detail = answer.get("error", {}) if isinstance(answer, dict) else {}
    code, message = detail.get("code", ""), detail.get("message", f"status {response.status_code}")
    match response.status_code:
        case 401:
            words = "The service wants an API key. Start this page with EVERYMASK_API_KEY set to yours."
        case 429:
            words = f"The service is busy. Try again in {response.headers.get('Retry-After', 'a few')} s."
        case 413:
            words = f"This image is too large for the service: {message}."
        case 503:
            words = "The service is not ready yet. Try again in a moment."
        case 504:
            words = "The service gave up on this image, as it took too long. Try a smaller one."
        case status if status >= 500:
            words = f"The service failed on this image (request {detail.get('request_id', 'unknown')})."
        case _:
            words = f"The service refused: {message}."
    return ServiceProblem(words, code)
