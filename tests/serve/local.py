"""The whole application in this process: the same parts and handles, by Serve's local testing mode, without a cluster.

What needs no cluster is tested so, in seconds; that the parts find each other through Serve is tested by `service`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray import serve
from starlette.testclient import TestClient

from serve.api import create_app
from serve.auth import ApiKeys
from serve.classifier import Classifier
from serve.encoder import Encoder
from serve.graph import Graph
from serve.refiner import Refiner
from serve.settings import read_settings


class LocalClassifier(Classifier):
    """Without Serve's cache of heads, which only a replica has."""

    _head = Classifier.load


@contextmanager
def local_service(args: Mapping[str, Any], keys: list[str]) -> Iterator[TestClient]:
    """A client of a service with these settings, without a key of its own."""
    settings = read_settings(args)
    encoder = serve.deployment(Encoder).bind(settings)
    refiner = serve.run(serve.deployment(Refiner).bind(settings, encoder), name="refiner", _local_testing_mode=True)
    classifier = serve.run(
        serve.deployment(LocalClassifier).bind(settings), name="classifier", _local_testing_mode=True
    )
    app = create_app(Graph("everymask", refiner, classifier), settings, ApiKeys(keys))
    with TestClient(app) as client:
        yield client
