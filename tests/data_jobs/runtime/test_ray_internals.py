"""Ray's private names are used in one module, and mean there what they meant when it was written."""

from __future__ import annotations

import re
from pathlib import Path

import ray
from ray._private import worker
from ray._raylet import InnerGcsClient
from ray.core.generated import autoscaler_pb2

from data_jobs.runtime.ray_internals import READ_IN, read_state, started_this_cluster

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_installed_ray_is_one_that_was_read() -> None:
    assert ".".join(ray.__version__.split(".")[:2]) in READ_IN


def test_the_private_names_are_there() -> None:
    assert hasattr(worker, "_global_node")
    assert callable(InnerGcsClient.get_cluster_status)
    reply = autoscaler_pb2.GetClusterStatusReply()  # type: ignore[attr-defined]
    assert reply.autoscaling_state.last_seen_cluster_resource_state_version == 0
    assert read_state(reply.autoscaling_state) is None


def test_without_ray_this_process_has_no_cluster() -> None:
    if not ray.is_initialized():
        assert not started_this_cluster()


def test_no_other_module_uses_a_private_name_of_ray() -> None:
    sources = [
        path for folder in ("data_jobs", "serve", "everymask_cli") for path in (REPOSITORY / folder).rglob("*.py")
    ]
    private = re.compile(r"\bray(\.\w+)*\._\w|from ray(\.\w+)*\._\w|ray\.core\.generated")
    using = {path.name for path in sources if private.search(path.read_text(encoding="utf-8"))}
    assert using == {"ray_internals.py"}
