"""What the tests of the cluster files share."""

from __future__ import annotations

import pytest

from tests.cluster.manifests import PLATFORMS, Manifests


@pytest.fixture(scope="session", params=PLATFORMS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    """The rendered manifests of each platform."""
    return Manifests(request.param)
