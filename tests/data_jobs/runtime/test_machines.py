"""What the autoscaler says becomes a sentence, and a wait that can never end is ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from ray.core.generated.autoscaler_pb2 import (
    AutoscalingState,
    FailedInstanceRequest,
    PendingInstance,
    PendingInstanceRequest,
    ResourceRequest,
)
from ray.core.generated.common_pb2 import LabelSelector, LabelSelectorConstraint

from data_jobs.runtime import machines
from data_jobs.runtime.machines import Machines
from data_jobs.runtime.ray_internals import AutoscalerState, read_state
from data_jobs.runtime.scheduling import Demand, Node
from everymask.errors import ConfigurationError

WORKER = Demand("labelling", 0.5, 1.0, labels={"ray.io/market-type": "on-demand"})
QUIET = AutoscalingState(last_seen_cluster_resource_state_version=3)


def refusal(labels: dict[str, str], gpus: float = 1.0) -> ResourceRequest:
    constraints = [LabelSelectorConstraint(label_key=key, label_values=[value]) for key, value in labels.items()]
    selectors = [LabelSelector(label_constraints=constraints)] if constraints else []
    return ResourceRequest(resources_bundle={"CPU": 0.5, "GPU": gpus}, label_selectors=selectors)


def state(**parts: object) -> AutoscalerState | None:
    return read_state(AutoscalingState(last_seen_cluster_resource_state_version=3, **parts))


def watching(states: Sequence[AutoscalerState | None]) -> Machines:
    """Looks at these states one after another, a minute apart."""
    seen: Iterator[AutoscalerState | None] = iter(states)
    times = iter(range(0, 6000, 60))
    return Machines(WORKER, lambda: next(seen), lambda: next(times))


ASKED = state(pending_instance_requests=[PendingInstanceRequest(ray_node_type_name="gpu_spot", count=2)])
STARTING = state(pending_instances=[PendingInstance(ray_node_type_name="gpu_spot")] * 2)
FAILED = state(
    failed_instance_requests=[
        FailedInstanceRequest(ray_node_type_name="gpu_spot", reason="InsufficientInstanceCapacity:\n no g5 there")
    ]
)
REFUSED = state(infeasible_resource_requests=[refusal({"ray.io/market-type": "on-demand"})])


def test_without_an_autoscaler_there_is_no_news() -> None:
    assert read_state(AutoscalingState()) is None
    assert watching([None]).news() == ""
    assert watching([read_state(QUIET)]).news() == ""


def test_it_says_which_type_and_since_when() -> None:
    watch = watching([ASKED, ASKED, ASKED, STARTING, ASKED])
    assert watch.news() == "2 × gpu_spot asked for since 0 s"
    watch.news()
    assert watch.news() == "2 × gpu_spot asked for since 2 min 00 s"
    assert watch.news() == "2 × gpu_spot starting since 0 s"
    assert watch.news() == "2 × gpu_spot asked for since 0 s", "a new request is another wait"


def test_it_says_what_the_cloud_answered_in_one_line() -> None:
    assert watching([FAILED]).news() == ("gpu_spot could not be had: InsufficientInstanceCapacity: no g5 there")
    silent = state(failed_instance_requests=[FailedInstanceRequest(ray_node_type_name="gpu_spot")])
    assert "the cloud gave no reason" in watching([silent]).news()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """The nodes that are there."""
    there: list[Node] = []
    monkeypatch.setattr(machines, "alive_nodes", lambda: there)
    return there


def test_a_request_that_stays_refused_ends_the_wait(nodes: list[Node]) -> None:
    watch = watching([REFUSED, REFUSED])
    watch.check()
    with pytest.raises(ConfigurationError, match=r"labelled ray\.io/market-type=on-demand, and no node type has that"):
        watch.check()


def test_a_refusal_of_something_else_or_one_that_passes_does_not(nodes: list[Node]) -> None:
    other = state(infeasible_resource_requests=[refusal({}), refusal(dict(WORKER.labels), gpus=4)])
    watch = watching([other, other, REFUSED, STARTING, REFUSED, None])
    for _ in range(6):
        watch.check()


def test_a_machine_that_others_use_is_waited_for(nodes: list[Node]) -> None:
    nodes.append(Node(8, 1, {"ray.io/market-type": "on-demand"}))
    watch = watching([REFUSED] * 3)
    for _ in range(3):
        watch.check()
