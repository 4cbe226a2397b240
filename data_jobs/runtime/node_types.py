"""The machines that a launcher's autoscaler may add, from the configuration that the launcher leaves on the head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from data_jobs.runtime.scheduling import Node

LAUNCHERS_FILE = Path("~/ray_bootstrap_config.yaml")
"""Where `ray up` puts it on the head, on which `ray job submit` runs drivers."""


def launchable(config: Mapping[str, Any]) -> list[Node] | None:
    """Every machine of every type at its limit; None if a type does not say what its machines have."""
    nodes: list[Node] = []
    for node_type in config.get("available_node_types", {}).values():
        most = node_type.get("max_workers", config.get("max_workers", 0))
        if most and "CPU" not in node_type.get("resources", {}):
            return None
        resources = node_type.get("resources", {})
        one = Node(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)), node_type.get("labels", {}))
        nodes += [one] * most
    return nodes


def nodes_of_the_launcher(file: Path = LAUNCHERS_FILE) -> list[Node] | None:
    """As `launchable`; None where no launcher made this cluster, as on Kubernetes."""
    try:
        return launchable(yaml.safe_load(file.expanduser().read_text()))
    except (OSError, ValueError, yaml.YAMLError, AttributeError):
        return None
