"""Checks, before anything starts, whether the cluster can ever run the job's stages."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ray

from data_jobs.runtime.ray_internals import autoscaler_state, started_this_cluster
from everymask.errors import ConfigurationError

logger = logging.getLogger(__name__)

_AUTOSCALER_PATIENCE_S = 60.0
_POLL_S = 0.25
# Sums of fractional CPUs such as 0.25 and 0.05 must not miss by rounding; Ray itself counts in ten-thousandths.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Demand:
    """A stage's minimum, needed at the same time as the other stages'.

    Attributes:
        stage: its name in messages.
        cpus: logical CPUs of each worker.
        gpus: GPUs of each worker, possibly a fraction.
        workers: how many at once.
        labels: labels of the nodes it may run on.
    """

    stage: str
    cpus: float
    gpus: float = 0.0
    workers: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        amounts = [f"{self.cpus:g} CPU"] + ([f"{self.gpus:g} GPU"] if self.gpus else [])
        where = f" on a node labelled {_listed(self.labels)}" if self.labels else " on one node"
        return f"{' and '.join(amounts)}{where}"


@dataclass(frozen=True)
class Node:
    """A node's totals, whether in use or not."""

    cpus: float
    gpus: float
    labels: Mapping[str, str] = field(default_factory=dict)

    def runs(self, demand: Demand) -> bool:
        """Whether one worker of the stage fits on the empty node."""
        return (
            self.cpus + _TOLERANCE >= demand.cpus
            and self.gpus + _TOLERANCE >= demand.gpus
            and all(self.labels.get(key) == value for key, value in demand.labels.items())
        )

    def without(self, demand: Demand) -> Node:
        """The node's resources without one worker of the stage."""
        return Node(self.cpus - demand.cpus, self.gpus - demand.gpus, self.labels)


def parse_labels(labels: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` pairs as a mapping; ConfigurationError if a pair lacks `=`, its key or its value."""
    pairs = {}
    for label in labels:
        key, equals, value = label.partition("=")
        if not (key and equals and value):
            raise ConfigurationError(
                f"node-labels must be KEY=VALUE, such as ray.io/market-type=on-demand; got {label!r}"
            )
        pairs[key] = value
    return pairs


def alive_nodes() -> list[Node]:
    return [
        Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0), node["Labels"])
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]


def shortage(nodes: Sequence[Node], demands: Sequence[Demand]) -> str | None:
    """What these nodes lack to run all demands at once, or None.

    Workers are placed by best fit, GPU work first: a heuristic, but Ray, which places worker after worker, does no
    better.
    """
    left = list(nodes)
    for demand in sorted(demands, key=lambda demand: (demand.gpus, demand.cpus), reverse=True):
        for placed in range(demand.workers):
            fitting = [index for index, node in enumerate(left) if node.runs(demand)]
            if not fitting:
                return _explain(nodes, demand, placed)
            best = min(fitting, key=lambda index: (left[index].gpus, left[index].cpus))
            left[best] = left[best].without(demand)
    return None


def most_workers_beside(nodes: Sequence[Node], demand: Demand, reserved_cpus: float) -> int | None:
    """The most workers of a long-lived stage that always leave `reserved_cpus` free on some node, wherever they run.

    A node cannot serve a task of `reserved_cpus` once workers leave less than that. If every node can get there, tasks
    between the stages wait for ever, and the workers with them. None if no number of workers can block every node,
    because GPUs run out before CPUs do.
    """
    blocking = 0
    for node in nodes:
        spare = node.cpus - reserved_cpus
        if spare < -_TOLERANCE:
            continue
        if not node.runs(demand):
            return None
        needed = int((spare + _TOLERANCE) / demand.cpus) + 1
        if demand.gpus and int(node.gpus / demand.gpus + _TOLERANCE) < needed:
            return None
        blocking += needed
    return max(blocking - 1, 0)


def check_schedulable(demands: Sequence[Demand], of_launcher: Sequence[Node] | None = None) -> None:
    """Ask whether the cluster, with what its autoscaler may add, can ever run all demands. No machine is asked for.

    Args:
        demands: of all stages.
        of_launcher: every node that the autoscaler may have, if that is known (`data_jobs.runtime.node_types`).

    Raises:
        ConfigurationError: it cannot; the stage is named, and what it lacks.
    """
    missing = shortage(alive_nodes(), demands)
    if missing is None:
        return
    if not _autoscaler_runs():
        raise ConfigurationError(f"this cluster cannot run the job: {missing}")
    impossible = shortage(of_launcher, demands) if of_launcher is not None else None
    if impossible:
        raise ConfigurationError(
            f"this cluster cannot run the job, not even with every node its autoscaler may add: {impossible}"
        )


def autoscaler_is_there() -> bool:
    """Whether an autoscaler has shown itself."""
    return not started_this_cluster() and autoscaler_state() is not None


def _explain(nodes: Sequence[Node], demand: Demand, placed: int) -> str:
    if any(node.runs(demand) for node in nodes):
        have = f"room for {placed} beside the other stages" if placed else "no room for it beside the other stages"
        return (
            f"{demand.stage} needs {demand.workers} × {demand}, and there is {have}; "
            "lower the least number of --actors, or add nodes"
        )
    if demand.gpus and not any(node.gpus for node in nodes):
        return f"{demand.stage} needs {demand}, and no node has a GPU; add GPU nodes, or pass --gpus-per-actor 0"
    if demand.labels and any(Node(node.cpus, node.gpus, demand.labels).runs(demand) for node in nodes):
        return f"{demand.stage} needs {demand}, and no node of that size is so labelled; change --node-labels"
    largest = max(nodes, key=lambda node: (node.gpus, node.cpus), default=Node(0, 0))
    return (
        f"{demand.stage} needs {demand}, and the largest node has {largest.cpus:g} CPU and {largest.gpus:g} GPU; "
        "ask for less, or add larger nodes"
    )


def _autoscaler_runs() -> bool:
    """Whether an autoscaler (version 2, the default of launchers and our manifests) manages this cluster.

    It may start later than the job, so a cluster started by others has a minute to show one.
    """
    patience_s = 0.0 if started_this_cluster() else _AUTOSCALER_PATIENCE_S
    deadline = time.monotonic() + patience_s
    if patience_s:
        logger.warning("the nodes that are here cannot run the job; an autoscaler has %g s to show itself", patience_s)
    while autoscaler_state() is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _listed(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())
