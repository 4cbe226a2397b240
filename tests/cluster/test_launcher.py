"""The cluster launcher's files, held against Ray's own schema, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FOLDER = Path(__file__).resolve().parents[2] / "cluster"
CLOUDS = ("aws", "gcp")


def load(cloud: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((FOLDER / f"{cloud}.yaml").read_text())
    assert config["provider"]["type"] == cloud
    return config


def is_spot(node_config: dict[str, Any]) -> bool:
    if "InstanceMarketOptions" in node_config:
        return bool(node_config["InstanceMarketOptions"]["MarketType"] == "spot")
    return any(entry.get("provisioningModel") == "SPOT" for entry in node_config.get("scheduling", []))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_accepts_it(cloud: str) -> None:
    validate_config(prepare_config(load(cloud)))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_refuses_a_misspelt_key(cloud: str) -> None:
    config = load(cloud)
    config["available_node_types"]["gpu_spot"]["max_worker"] = 3
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_gpu_nodes_come_from_spot_first_and_go_when_idle(cloud: str) -> None:
    types = prepare_config(load(cloud))["available_node_types"]
    spot, on_demand = types["gpu_spot"], types["gpu_on_demand"]
    assert spot["resources"] == on_demand["resources"]
    assert spot["priority"] > on_demand["priority"]
    assert is_spot(spot["node_config"])
    assert not is_spot(on_demand["node_config"])
    for node_type in types.values():
        market = "spot" if is_spot(node_type["node_config"]) else "on-demand"
        assert node_type["labels"]["ray.io/market-type"] == market
        assert node_type.get("min_workers", 0) == 0


@pytest.mark.parametrize("cloud", CLOUDS)
def test_head_runs_no_work_and_is_never_spot(cloud: str) -> None:
    config = load(cloud)
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"]["CPU"] == 0
    assert not is_spot(head["node_config"])


@pytest.mark.parametrize("cloud", CLOUDS)
def test_cluster_is_authenticated_and_its_dashboard_is_not_public(cloud: str) -> None:
    config = load(cloud)
    assert any("RAY_AUTH_MODE=token" in option for option in config["docker"]["run_options"])
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert any("--dashboard-host=127.0.0.1" in command for command in config["head_start_ray_commands"])
