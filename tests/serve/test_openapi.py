"""The OpenAPI document is true: schemathesis asks what it allows and what it forbids, and its examples work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.serve.running_service import API_KEY, REPOSITORY, RunningService

pytestmark = pytest.mark.serve


def test_every_answer_is_as_the_document_says(service: RunningService) -> None:
    finished = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", "tests/serve/schemathesis.toml"),
            *("run", f"{service.url}/openapi.json", "--header", f"Authorization: Bearer {API_KEY}"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--seed", "1", "--no-color"),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.serve.schemathesis_hooks", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    print(finished.stdout)
    assert finished.returncode == 0, finished.stdout[-6000:]


def test_the_examples_work_when_pasted(service: RunningService) -> None:
    with service.client() as http:
        document = http.get("/openapi.json").json()
        pasted = 0
        for path, operations in document["paths"].items():
            content = operations.get("post", {}).get("requestBody", {}).get("content", {})
            if "application/json" not in content:
                continue
            pasted += 1
            query = {"head": "discs"} if path == "/v1/classes" else {}
            response = http.post(path, params=query, json=content["application/json"]["example"])
            assert response.status_code == 200, (path, response.text)
            assert (response.json()["width"], response.json()["height"]) == (48, 32)
        assert pasted == 3


def test_every_error_status_has_the_error_schema(service: RunningService) -> None:
    document = httpx.get(f"{service.url}/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) < 400 or path == "/readyz":
                    continue
                reference = response["content"]["application/json"]["schema"]["$ref"]
                assert reference.endswith("/ErrorAnswer"), (path, status)
