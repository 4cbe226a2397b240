"""The cluster launcher's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "cluster"
CLOUDS = ("aws", "gcp")


def load(cloud: str) -> dict[str, Any]:
    """The configuration for a cloud."""
    config: dict[str, Any] = yaml.safe_load((FOLDER / f"{cloud}.yaml").read_text())
    assert config["provider"]["type"] == cloud
    return config
