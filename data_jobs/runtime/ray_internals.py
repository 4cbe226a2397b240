"""The only place that uses Ray's private names.

Checked in Ray 2.60. With another version `tests/data_jobs/runtime/test_ray_internals.py` fails first: check whether
these names still mean the same, then add the version.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.core.generated import autoscaler_pb2

READ_IN = ("2.60",)
"""Versions of Ray in which these names were checked."""


def started_this_cluster() -> bool:
    """Whether this process started the cluster, which then has no autoscaler."""
    node: Any = getattr(ray._private.worker, "_global_node", None)
    return node is not None and bool(node.is_head())


def cluster_status() -> Any:
    """The `GetClusterStatusReply` behind `ray status`, because no public call tells which requests are refused.

    Its `autoscaling_state` has `last_seen_cluster_resource_state_version`, 0 without an autoscaler, and
    `infeasible_gang_resource_requests`; its `cluster_resource_state` has `cluster_resource_state_version`.
    """
    reply = autoscaler_pb2.GetClusterStatusReply()  # type: ignore[attr-defined]
    reply.ParseFromString(ray._private.worker.global_worker.gcs_client.get_cluster_status())  # type: ignore[attr-defined]
    return reply
