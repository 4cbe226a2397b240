"""Scheduling checks against brute force; the autoscaler's part is in tests/cluster/test_autoscaling.py."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_jobs.runtime.scheduling import Demand, Node, most_workers_beside, parse_labels, shortage
from everymask.errors import ConfigurationError

READ = Demand("reading", cpus=0.25)
LABEL = Demand("labelling", cpus=0.5, gpus=1.0)
GPU_NODE = Node(8, 1)
CPU_NODE = Node(4, 0)

quarters = st.integers(0, 8).map(lambda quarter: quarter / 4)
nodes = st.lists(st.builds(Node, quarters, st.sampled_from([0.0, 1.0, 2.0])), min_size=1, max_size=3)
demands = st.lists(
    st.builds(
        Demand,
        st.just("stage"),
        st.sampled_from([0.25, 0.5, 1.0]),
        st.sampled_from([0.0, 0.5, 1.0]),
        st.integers(1, 2),
    ),
    min_size=1,
    max_size=2,
)


def packs(nodes: list[Node], demands: list[Demand]) -> bool:
    """Whether any assignment of workers to nodes fits, by trying them all."""
    workers = [demand for demand in demands for _ in range(demand.workers)]
    for places in itertools.product(range(len(nodes)), repeat=len(workers)):
        used = [[0.0, 0.0] for _ in nodes]
        for place, worker in zip(places, workers, strict=True):
            used[place][0] += worker.cpus
            used[place][1] += worker.gpus
        if all(cpus <= node.cpus and gpus <= node.gpus for (cpus, gpus), node in zip(used, nodes, strict=True)):
            return True
    return False


@given(nodes, demands)
@settings(max_examples=150)
def test_a_set_it_calls_placeable_is_placeable(nodes: list[Node], demands: list[Demand]) -> None:
    if shortage(nodes, demands) is None:
        assert packs(nodes, demands)


@given(nodes, demands)
@settings(max_examples=150)
def test_one_worker_of_one_stage_is_judged_exactly(nodes: list[Node], demands: list[Demand]) -> None:
    alone = [Demand("stage", demands[0].cpus, demands[0].gpus)]
    assert (shortage(nodes, alone) is None) == packs(nodes, alone)


def test_mixed_cluster_serves_all_stages() -> None:
    assert shortage([GPU_NODE, CPU_NODE], [READ, LABEL, Demand("writing", 0.25)]) is None


@pytest.mark.parametrize(
    ("nodes", "demand", "words"),
    [
        ([CPU_NODE], LABEL, ["labelling", "no node has a GPU", "--gpus-per-actor 0"]),
        ([GPU_NODE], Demand("labelling", 0.5, 2), ["2 GPU", "largest node has 8 CPU and 1 GPU"]),
        ([CPU_NODE], Demand("labelling", 16), ["16 CPU", "largest node has 4 CPU"]),
        ([GPU_NODE], Demand("labelling", 0.5, 1, workers=3), ["3 ×", "room for 1", "--actors"]),
        ([GPU_NODE], Demand("labelling", 0.5, 1, labels={"ray.io/market-type": "spot"}), ["spot", "--node-labels"]),
        ([], READ, ["reading", "0 CPU"]),
    ],
)
def test_shortage_names_the_stage_and_the_remedy(nodes: list[Node], demand: Demand, words: list[str]) -> None:
    message = shortage(nodes, [demand])
    assert message is not None
    for word in words:
        assert word in message


def can_block(nodes: list[Node], demand: Demand, workers: int, reserved_cpus: float) -> bool:
    """Whether some placement of the workers leaves no node with the reserved CPUs, by trying them all."""
    for places in itertools.product(range(len(nodes)), repeat=workers):
        counts = [places.count(index) for index in range(len(nodes))]
        left = [node.cpus - count * demand.cpus for node, count in zip(nodes, counts, strict=True)]
        gpus = [node.gpus - count * demand.gpus for node, count in zip(nodes, counts, strict=True)]
        if min(left + gpus) >= 0 and max(left) < reserved_cpus:
            return True
    return False


@given(
    st.lists(
        st.builds(Node, st.sampled_from([0.5, 1.0, 2.0, 3.0]), st.sampled_from([0.0, 2.0])), min_size=1, max_size=3
    ),
    st.sampled_from([0.5, 0.75, 1.0]),
    st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=100)
def test_reader_is_never_starved_by_the_most_workers(nodes: list[Node], cpus: float, gpus: float) -> None:
    demand = Demand("labelling", cpus, gpus)
    most = most_workers_beside(nodes, demand, reserved_cpus=1.0)
    if not any(node.cpus >= 1.0 for node in nodes):
        assert most == 0
        return
    for workers in range(6 if most is None else min(most, 6) + 1):
        assert not can_block(nodes, demand, workers, 1.0)
    if most is not None and most < 5:
        assert can_block(nodes, demand, most + 1, 1.0)


def test_labels_are_pairs() -> None:
    assert parse_labels(["ray.io/market-type=spot", "zone=a"]) == {"ray.io/market-type": "spot", "zone": "a"}
    for malformed in ("spot", "=spot", "zone="):
        with pytest.raises(ConfigurationError, match="KEY=VALUE"):
            parse_labels([malformed])
