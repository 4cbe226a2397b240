"""Fixtures every test may use. Ray runs without token authentication here, whatever the machine's defaults are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.machine import SLOW, announced, is_for_want_of_a_tool

if TYPE_CHECKING:
    from everymask.backbone.sam import SamBackbone
    from tests.serve.running_service import RunningService

os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray lowers the priority of its workers, which then starve where anything else runs.
os.environ.setdefault("RAY_worker_niceness", "0")
# What Ray looks at ten times a second and every five takes a good part of a core from the tests.
os.environ.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "0.3")
os.environ.setdefault("REPORTER_UPDATE_INTERVAL_MS", "15000")
# Ray's workers have the environment of the moment a cluster starts, so the loopback S3 server's keys, any at all, stand
# here rather than in the test that needs them.
os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as processors, so a thread each; PyTorch reads it as it loads
    os.environ["OMP_NUM_THREADS"] = "1"

# The same examples in every run, and none is late on a busy machine.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Before slow tests: what this machine lacks for some of them, and what changes that."""
    return announced(SLOW) if config.getoption("markexpr") == "slow" else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tests that did not run are not tests that had no business here."""
    skipped = [report for report in terminalreporter.getreports("skipped") if isinstance(report, pytest.TestReport)]
    wanting = sum(is_for_want_of_a_tool(str(report.longrepr)) for report in skipped)
    if wanting:
        terminalreporter.write_line(f"{wanting} tests did not run for want of a tool; the reasons above say which")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of ground truth (COCO, BSDS, exemplars), or a skip that says how to name it."""
    folder = Path(os.environ.get("EVERYMASK_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "coco_panoptic").is_dir():
        pytest.skip(f"no ground truth at {folder}; set EVERYMASK_DATA to a folder that holds coco_panoptic/")
    return folder


@pytest.fixture(scope="session")
def tiny_sam_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the official SAM architecture, a 256-pixel model; loads as `vit_b`."""
    from tests.tiny_sam import write_tiny_checkpoint

    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny_sam"))


@pytest.fixture(scope="session")
def tiny_sam(tmp_path_factory: pytest.TempPathFactory) -> SamBackbone:
    """The backbone of those weights, on the CPU."""
    from tests.tiny_sam import load_tiny_sam

    return load_tiny_sam(tmp_path_factory.mktemp("tiny_sam"))


@pytest.fixture(scope="session")
def service(
    tiny_sam_checkpoint: Path, tiny_sam: SamBackbone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    """The real service on loopback: those weights, coarse grids, two refiners, API keys, small limits."""
    from tests.serve.running_service import COARSE, start_service, write_head

    heads = tmp_path_factory.mktemp("heads")
    write_head(heads, "discs", tiny_sam)
    write_head(heads, "of_another_model", tiny_sam, weights_sha256="0" * 64)
    (heads / "damaged.safetensors").write_bytes(b"not safetensors")
    args = {
        "model": "vit_b",
        "checkpoint": str(tiny_sam_checkpoint),
        "limits": {"max_bytes": 2_000_000, "max_pixels": 2_000_000},
        "requests": {"max_in_flight": 4, "time_limit_s": 20, "max_mask_gigapixels": 0.02},
        "server_timing": True,
        **COARSE,
        "refiner": {"min_replicas": 2, "max_replicas": 2},
    }
    with start_service(args, heads) as running:
        yield running
