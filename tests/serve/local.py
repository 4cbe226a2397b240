"""The whole application in this process: the same parts and handles, by Serve's local testing mode, without a cluster.

What needs no cluster is tested so, in seconds; that the parts find each other through Serve is tested by `service`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Any

import uvicorn
from ray import serve
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from serve.api import create_app
from serve.auth import ApiKeys
from serve.classifier import Classifier
from serve.encoder import Encoder
from serve.graph import Graph
from serve.refiner import Refiner
from serve.settings import read_settings
from tests.serve.running_service import await_that


class LocalClassifier(Classifier):
    """Without Serve's cache of heads, which only a replica has."""

    _head = Classifier.load


def local_app(args: Mapping[str, Any], keys: list[str] | None) -> ASGIApp:
    """The service with these settings."""
    settings = read_settings(args)
    encoder = serve.deployment(Encoder).bind(settings)
    refiner = serve.run(serve.deployment(Refiner).bind(settings, encoder), name="refiner", _local_testing_mode=True)
    classifier = serve.run(
        serve.deployment(LocalClassifier).bind(settings), name="classifier", _local_testing_mode=True
    )
    return create_app(Graph("everymask", refiner, classifier), settings, ApiKeys(keys))


@contextmanager
def local_service(args: Mapping[str, Any], keys: list[str]) -> Iterator[TestClient]:
    """A client of a service with these settings, without a key of its own."""
    with TestClient(local_app(args, keys)) as client:
        yield client


@contextmanager
def listening(app: ASGIApp, port: int) -> Iterator[str]:
    """The address of an app behind a real HTTP server, in a thread of its own."""
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning"))
    thread = Thread(target=server.run)
    thread.start()
    try:
        await_that(lambda: server.started or not thread.is_alive())
        assert server.started
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
