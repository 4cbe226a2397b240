"""The cluster launcher's files, held against Ray's own schema and the commands Ray would run, offline."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from ray.autoscaler._private.command_runner import DockerCommandRunner
from ray.autoscaler._private.providers import _get_node_provider_cls
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent

from tests.cluster.image.dockerfile import parse
from tests.cluster.launcher_files import CLOUDS, FOLDER, load


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


class RecordedMachine:
    """Answers as a machine with Docker and NVIDIA's runtime does that has the image, and keeps every command."""

    def __init__(self, image_environment: list[str]) -> None:
        self.commands: list[str] = []
        self._image_environment = image_environment

    def check_call(self, command: list[str], *_: object, **__: object) -> int:
        self.commands.append(" ".join(command))
        return 0

    def check_output(self, command: list[str], *_: object, **__: object) -> bytes:
        text = " ".join(command)
        self.commands.append(text)
        if ".Config.Env" in text:
            return json.dumps(self._image_environment).encode()
        if ".Runtimes" in text:
            return b'{"nvidia": {"path": "nvidia-container-runtime"}, "runc": {}}'
        if "MemAvailable" in text:
            return b"MemAvailable: 100000000 kB"
        if ".State.Running" in text:
            return b"false"
        return b""


def commands_that_start_the_container(cloud: str, as_head: bool) -> str:
    """What `ray up` runs on a machine up to the start of our container."""
    config = prepare_config(load(cloud))
    (run,) = [stage for stage in parse((FOLDER / "Dockerfile").read_text()) if stage.name == "run"]
    environment = re.findall(r"(\w+=\S+)", " ".join(run.arguments("ENV")))
    machine = RecordedMachine(environment)
    provider = SimpleNamespace(
        external_ip=lambda _: "10.0.0.1", internal_ip=lambda _: "10.0.0.1", log_prefix=lambda _: ""
    )
    runner = DockerCommandRunner(
        config["docker"],
        log_prefix="",
        node_id="node",
        auth_config=config["auth"],
        provider=provider,
        cluster_name=config["cluster_name"],
        process_runner=machine,
        use_internal_ip=True,
    )
    runner.run_init(as_head=as_head, file_mounts=config["file_mounts"], sync_run_yet=True)
    (start,) = [command for command in machine.commands if "docker run" in command]
    return start


@pytest.mark.parametrize("as_head", [True, False])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_token_is_mounted_where_the_user_of_the_image_reads_it(cloud: str, as_head: bool) -> None:
    """Ray takes the home from the image's HOME, and /root where it has none; we run as user 1000."""
    start = commands_that_start_the_container(cloud, as_head)
    assert ":/home/everymask/.ray/auth_token" in start
    assert "/root" not in start


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_container_that_runs_with_nvidias_runtime_sees_the_gpus(cloud: str) -> None:
    start = commands_that_start_the_container(cloud, as_head=False)
    assert "--runtime=nvidia" in start
    assert "NVIDIA_VISIBLE_DEVICES=all" in start


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_the_providers_import_is_in_the_image(cloud: str) -> None:
    """The head's autoscaler runs in our container and starts machines from there."""
    extras = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = {"aws": "boto3", "gcp": "google-api-python-client"}[cloud]
    assert needed in extras["cloud"]
    assert "cloud" in re.findall(r"\.\[([\w,]+)\]", (FOLDER / "Dockerfile").read_text())[0].split(",")
    assert _get_node_provider_cls(load(cloud)["provider"]) is not None


def test_a_machine_image_looked_up_by_parameter_needs_leave_to_look_it_up() -> None:
    assert "resolve:ssm:" in (FOLDER / "aws.yaml").read_text()
    policies = [json.loads(file.read_text()) for file in sorted((FOLDER / "iam").glob("*.json"))]
    statements = [statement for policy in policies for statement in policy["Statement"]]
    actions = {action for statement in statements for action in _listed(statement["Action"])}
    assert {"ssm:GetParameters", "ec2:RunInstances", "iam:PassRole", "s3:PutObject"} <= actions
    assert not actions & {"*", "iam:*", "s3:*", "ec2:*"}


@pytest.mark.parametrize(("status", "gives_way"), [("ALLOCATION_TIMEOUT", True), ("ALLOCATION_FAILED", False)])
def test_when_ray_gives_way_from_spot_to_on_demand(status: str, gives_way: bool) -> None:
    """cluster/README.md says what to do, since Ray does not hear of refused launches. Once it does, change that."""
    monitor = CloudResourceMonitor()
    event = InstanceUpdateEvent(new_instance_status=getattr(Instance, status), instance_type="gpu_spot")
    monitor.notify([event])
    assert ("gpu_spot" in monitor.get_resource_availabilities()) is gives_way


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_g2_machines_get_a_disk_they_can_have() -> None:
    for node_type in load("gcp")["available_node_types"].values():
        (disk,) = node_type["node_config"]["disks"]
        assert disk["initializeParams"]["diskType"].endswith("/pd-balanced")


def watchdogs(cloud: str) -> dict[str, str | None]:
    """The script that each type of machine starts with."""
    found = {}
    for name, node_type in load(cloud)["available_node_types"].items():
        config = node_type["node_config"]
        items = {item["key"]: item["value"] for item in config.get("metadata", {}).get("items", [])}
        found[name] = config.get("UserData") or items.get("startup-script")
    return found


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(
    ("answers", "minutes"),
    [("0" * 20, 20), ("0" * 19 + "1" + "0" * 20, 40), ("1" * 50 + "0" * 20, 70)],
    ids=["never a head", "late", "a head that was lost"],
)
def test_workers_without_a_head_end_themselves(cloud: str, answers: str, minutes: int, tmp_path: Path) -> None:
    """The real script, with programs of the system in whose place others count: minute N finds Ray or does not."""
    scripts = watchdogs(cloud)
    assert scripts.pop("head") is None
    (script,) = set(scripts.values())
    assert script is not None
    (tmp_path / "answers").write_text("\n".join(answers) + "\n")
    programs = {
        "systemd-run": 'shift; exec "$@"',
        "sleep": f'echo "$1" >> {tmp_path}/slept',
        "pgrep": f"head -n $(wc -l < {tmp_path}/slept) {tmp_path}/answers | tail -n 1 | grep -q 1",
        "shutdown": f"wc -l < {tmp_path}/slept > {tmp_path}/ended",
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "script").write_text(script)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", str(tmp_path / "script")], env=environment, check=True, timeout=120)
    assert int((tmp_path / "ended").read_text()) == minutes
    assert set((tmp_path / "slept").read_text().split()) == {"60"}


def test_a_machine_of_aws_that_shuts_down_is_gone() -> None:
    types = load("aws")["available_node_types"]
    assert all(
        node_type["node_config"]["InstanceInitiatedShutdownBehavior"] == "terminate"
        for name, node_type in types.items()
        if name != "head"
    )
