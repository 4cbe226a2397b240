"""A job that is earlier than the autoscaler: it waits for the first sign of it."""

from __future__ import annotations

import threading

import pytest
import ray
from ray.core.generated.autoscaler_pb2 import AutoscalingState

from data_jobs.runtime.scheduling import Demand, check_schedulable
from tests.cluster.multinode import multinode_cluster

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


def test_an_autoscaler_that_starts_late_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with multinode_cluster(head_cpus=1):
        gcs = ray._private.worker.global_worker.gcs_client  # type: ignore[attr-defined]
        started = threading.Event()
        # Far ahead of any question: the answer to it has been seen, and refuses nothing.
        sign = AutoscalingState(last_seen_cluster_resource_state_version=2**40, autoscaler_state_version=1)

        def start() -> None:
            gcs.report_autoscaling_state(sign.SerializeToString())
            started.set()

        autoscaler = threading.Timer(3, start)
        autoscaler.start()
        check_schedulable([Demand("labelling", 1, 1)])  # the cluster has no GPU: without an autoscaler it is refused
        assert started.is_set()
        assert "autoscaler has 60 s" in caplog.text
        autoscaler.join()
