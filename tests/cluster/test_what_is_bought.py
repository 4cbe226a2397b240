"""What a job's workers ask for, and what Ray's own scheduler buys for it by the launcher's files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import ClusterResourceConstraint, ResourceRequestByCount
from ray.core.generated.common_pb2 import LabelSelectorOperator

from data_jobs.labelling.relabel import IMAGES_WORTH_A_WORKER as WORTH
from data_jobs.labelling.relabel import useful_relabellers
from data_jobs.runtime.actors import Actors, workers_at_once
from data_jobs.runtime.node_types import launchable, nodes_of_the_launcher
from data_jobs.runtime.scheduling import Demand, shortage
from everymask.classes.embeddings import EmbeddingShard
from tests.cluster.launcher_files import CLOUDS, load

MARKET = "ray.io/market-type"
MARKETS = {"on-demand": "gpu_on_demand", "spot": "gpu_spot"}


def request(demand: Demand, count: int) -> ResourceRequestByCount:
    """What pending workers ask of the autoscaler, labels included."""
    labels = [[(key, LabelSelectorOperator.LABEL_OPERATOR_IN, [value]) for key, value in demand.labels.items()]]
    amounts = {"CPU": demand.cpus} | ({"GPU": demand.gpus} if demand.gpus else {})
    asked = ResourceRequestUtil.make(amounts, label_selectors=labels if demand.labels else None)
    return ResourceRequestByCount(request=asked, count=count)


def bought(cloud: str, **demands: Any) -> tuple[Counter[str], int]:
    """(machines by type, requests that can never be fulfilled) by Ray's scheduler, from nothing."""
    settings = AutoscalingConfig(prepare_config(load(cloud)), skip_content_hash=True)
    reply = ResourceDemandScheduler(event_logger=None).schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=settings.get_node_type_configs(),
            max_num_nodes=settings.get_max_num_worker_nodes(),
            idle_timeout_s=300,
            **demands,
        )
    )
    return Counter({launch.instance_type: launch.count for launch in reply.to_launch}), len(
        reply.infeasible_resource_requests
    )


def actors(maximum: int, labels: dict[str, str] | None = None) -> Actors:
    """Labellers on one GPU each."""
    return Actors(1, maximum, 1.0, 0.5, threads=1, labels=labels or {})


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_labelled_workers_buy_machines_of_their_label_alone(cloud: str, market: str) -> None:
    worker = actors(6, {MARKET: market}).worker
    machines, refused = bought(cloud, resource_requests=[request(worker, 6)])
    assert machines == {MARKETS[market]: 6}
    assert refused == 0


@pytest.mark.parametrize("cloud", CLOUDS)
def test_without_a_label_spot_machines_come(cloud: str) -> None:
    assert bought(cloud, resource_requests=[request(actors(6).worker, 6)])[0] == {"gpu_spot": 6}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_request_without_labels_as_ray_data_makes_it_would_buy_spot_machines(cloud: str) -> None:
    """Why it must make none: nobody with `--node-labels ray.io/market-type=on-demand` could use them."""
    worker = Demand("labelling", 0.5, 1.0)
    asked = ClusterResourceConstraint(resource_requests=[request(worker, 2)])
    assert bought(cloud, cluster_resource_constraints=[asked])[0] == {"gpu_spot": 2}


ASKS = """
import data_jobs, itertools, time
from ray.data._internal.cluster_autoscaler import RateBasedClusterAutoscaler
from ray.data._internal.cluster_autoscaler.fake_autoscaling_coordinator import FakeAutoscalingCoordinator
from ray.data._internal.cluster_autoscaler.resource_utilization_gauge import ClusterUtil

class Full:
    def observe(self): pass
    def get(self): return ClusterUtil(cpu=1.0, gpu=1.0, memory=1.0, object_store_memory=1.0)

autoscaler = RateBasedClusterAutoscaler(
    [], "x", utility_calculator=Full(), autoscaling_coordinator=FakeAutoscalingCoordinator(),
    min_gap_between_autoscaling_requests_s=0,
)
print(autoscaler._is_cluster_utilization_low(Full().get()), autoscaler.try_trigger_scaling())
"""


@pytest.mark.parametrize(
    ("line", "said"), [(ASKS, "True []"), (ASKS.replace("import data_jobs,", "import"), "False []")]
)
def test_ray_data_asks_for_nothing_however_busy_it_is(line: str, said: str) -> None:
    """In a process of its own, as Ray Data reads its settings when it is imported; without us it would ask."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_DATA_")}
    command = [sys.executable, "-c", line]
    done = subprocess.run(command, env=inherited, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == said


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(
    ("crew", "lacks"),
    [
        (actors(32), None),
        (Actors(32, 32, 1.0, 0.5, 1), None),
        (Actors(8, 8, 1.0, 0.5, 1, {MARKET: "on-demand"}), None),
        (Actors(9, 9, 1.0, 0.5, 1, {MARKET: "on-demand"}), "there is room for 8 beside the other stages"),
        (Actors(1, 1, 2.0, 0.5, 1), "labelling needs 0.5 CPU and 2 GPU on one node, and the largest node has 8 CPU"),
        (Actors(1, 1, 1.0, 0.5, 1, {MARKET: "reserved"}), "no node of that size is so labelled"),
    ],
)
def test_what_can_ever_run_is_known_from_the_launchers_file(cloud: str, crew: Actors, lacks: str | None) -> None:
    nodes = launchable(load(cloud))
    assert nodes is not None
    found = shortage(nodes, crew.demands())
    assert found is None if lacks is None else found is not None and lacks in found
    # Ray's scheduler says the same of the labellers.
    refused = bought(cloud, resource_requests=[request(crew.worker, crew.minimum)])[1]
    assert (refused == 0) == (lacks is None)


def test_only_a_launchers_head_has_its_file(tmp_path: Path) -> None:
    assert nodes_of_the_launcher(tmp_path / "none.yaml") is None
    (tmp_path / "odd.yaml").write_text("- a list\n")
    assert nodes_of_the_launcher(tmp_path / "odd.yaml") is None
    (tmp_path / "silent.yaml").write_text(yaml.safe_dump({"available_node_types": {"gpu": {"max_workers": 2}}}))
    assert nodes_of_the_launcher(tmp_path / "silent.yaml") is None
    (tmp_path / "aws.yaml").write_text(yaml.safe_dump(load("aws"), sort_keys=False))
    assert nodes_of_the_launcher(tmp_path / "aws.yaml") == launchable(load("aws"))


@pytest.mark.parametrize(
    ("images", "maximum", "asked"), [(0, 16, 1), (127, 16, 1), (1280, 16, 10), (10**6, 16, 16), (10**6, 1, 1)]
)
def test_a_run_asks_at_once_for_what_its_images_keep_busy(images: int, maximum: int, asked: int) -> None:
    assert workers_at_once(images, actors(maximum)) == asked


@pytest.mark.parametrize(
    ("shards", "images", "maximum", "useful", "asked"),
    [
        (1, 32, 16, 1, 1),
        (3, WORTH, 16, 3, 3),
        (20, WORTH // 4, 16, 16, 5),
        (1000, 32, 16, 16, 1000 * 32 // WORTH),
        (10**4, WORTH, 16, 16, 16),
    ],
)
def test_relabelling_asks_for_what_its_images_keep_busy_and_for_no_more_than_it_has_shards(
    shards: int, images: int, maximum: int, useful: int, asked: int
) -> None:
    shard = EmbeddingShard("masks", "a.parquet", tuple(range(images)), ("a",) * images)
    crew = useful_relabellers(Actors(1, maximum, 0.0, 1.0, 1, {MARKET: "on-demand"}), [shard] * shards)
    assert crew.maximum == useful
    assert workers_at_once(shards * images, crew, WORTH) == asked


@pytest.mark.parametrize("cloud", CLOUDS)
def test_relabellers_buy_machines_without_gpus_and_of_their_label(cloud: str) -> None:
    crew = Actors(1, 16, 0.0, 1.0, 1, {MARKET: "on-demand"})
    assert bought(cloud, resource_requests=[request(crew.worker, 16)]) == ({"cpu": 1}, 0)


def test_the_fewest_workers_are_asked_for_whatever_the_length() -> None:
    assert workers_at_once(3, Actors(4, 16, 1.0, 0.5, 1)) == 4
