"""A real Ray head with its real autoscaler, whose cloud is this machine: its nodes are local processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from tests.cluster.multinode import PATIENCE

HEAD_PORT = 6379
"""The fake provider tells its nodes this port and no other."""

STOP_TIMEOUT_S = 60


def _config(node_types: Mapping[str, Mapping[str, Any]], idle_timeout_minutes: float, head_cpus: int) -> dict[str, Any]:
    head: dict[str, Any] = {"resources": {"CPU": head_cpus}, "node_config": {}, "max_workers": 0}
    return {
        "cluster_name": "fake",
        "max_workers": sum(node_type["max_workers"] for node_type in node_types.values()),
        "idle_timeout_minutes": idle_timeout_minutes,
        "upscaling_speed": 10.0,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
        },
        "available_node_types": {"ray.head.default": head, **node_types},
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


def port_is_free() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", HEAD_PORT)) != 0


@contextmanager
def autoscaling_cluster(
    node_types: Mapping[str, Mapping[str, Any]], folder: Path, idle_timeout_minutes: float = 0.1, head_cpus: int = 1
) -> Iterator[str]:
    """Address of a head that may launch the given worker types (as in a launcher file).

    Args:
        node_types: name to `resources`, `node_config`, `min_workers`, `max_workers`, and what else a launcher file has.
        folder: for the configuration and the head's log.
        idle_timeout_minutes: after which a node without work goes.
        head_cpus: for work on the head.
    """
    config = folder / "autoscaling.json"
    config.write_text(json.dumps(_config(node_types, idle_timeout_minutes, head_cpus)))
    environment = {
        **os.environ,
        **PATIENCE,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    }
    ray = str(Path(sys.executable).with_name("ray"))
    command = [
        ray,
        "start",
        "--head",
        "--block",
        f"--port={HEAD_PORT}",
        f"--num-cpus={head_cpus}",
        "--include-dashboard=false",
    ]
    command += [f"--autoscaling-config={config}", "--disable-usage-stats", "--object-store-memory=100000000"]
    with (folder / "head.log").open("w") as log:
        # A session of its own: Ray's clean-up signals its whole group, which must not hold the tests.
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            yield f"127.0.0.1:{HEAD_PORT}"
        finally:
            head.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                head.wait(STOP_TIMEOUT_S)
            # Nodes that the fake provider started leave helpers behind, in the head's group.
            with suppress(ProcessLookupError):
                os.killpg(head.pid, signal.SIGKILL)
            head.wait()
