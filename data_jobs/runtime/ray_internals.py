"""The only place that uses Ray's private names.

Checked in Ray 2.60. With another version `tests/data_jobs/runtime/test_ray_internals.py` fails first: check whether
these names still mean the same, then add the version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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

    Its `autoscaling_state` has `last_seen_cluster_resource_state_version`, 0 without an autoscaler.
    """
    reply = autoscaler_pb2.GetClusterStatusReply()  # type: ignore[attr-defined]
    reply.ParseFromString(ray._private.worker.global_worker.gcs_client.get_cluster_status())  # type: ignore[attr-defined]
    return reply


@dataclass(frozen=True)
class AutoscalerState:
    """What the autoscaler (version 2, the default of launchers and our manifests) last said.

    Attributes:
        asked: machines asked for and not granted yet, by node type.
        starting: machines that are granted and whose Ray is not up yet, by node type.
        failed: node type and the cloud's reason of each launch that failed lately.
        refused: requests that no node type can ever fulfil: resources, and labels of the node.
    """

    asked: Mapping[str, int] = field(default_factory=dict)
    starting: Mapping[str, int] = field(default_factory=dict)
    failed: Sequence[tuple[str, str]] = ()
    refused: Sequence[tuple[Mapping[str, float], Mapping[str, str]]] = ()


def autoscaler_state() -> AutoscalerState | None:
    """What the autoscaler last said; None if there is none, or it has said nothing yet."""
    return read_state(cluster_status().autoscaling_state)


def read_state(state: Any) -> AutoscalerState | None:
    """An `AutoscalingState` in our words."""
    if not state.last_seen_cluster_resource_state_version:
        return None
    asked: Counter[str] = Counter()
    for request in state.pending_instance_requests:
        asked[request.ray_node_type_name] += request.count
    return AutoscalerState(
        asked,
        Counter(instance.ray_node_type_name for instance in state.pending_instances),
        [(request.ray_node_type_name, request.reason) for request in state.failed_instance_requests],
        [(dict(request.resources_bundle), _labels(request)) for request in state.infeasible_resource_requests],
    )


def _labels(request: Any) -> dict[str, str]:
    return {
        constraint.label_key: ",".join(constraint.label_values)
        for selector in request.label_selectors
        for constraint in selector.label_constraints
    }
