"""The dashboard and the alerts show what jobs and services count: all of it, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from everymask.metrics import JOB, SERVICE
from supply.monitoring import FOLDER, OF_SERVE, PANELS, dashboard, files, metrics_in
from tests.machine import PROMETHEUS, skip_without

METRICS = (*JOB, *SERVICE)
UNITS = {"seconds", "bytes", "ms"}
THINGS = {
    *("images", "errors", "masks", "parts", "batches", "requests", "hits", "misses", "entries", "sealed", "work"),
    *("waiting", "flight"),
}


def queries() -> list[str]:
    """Those of the panels, and of the alerts."""
    written = json.loads((FOLDER / "dashboard.json").read_text())
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
    drawn = [target["expr"] for panel in written["panels"] for target in panel.get("targets", [])]
    return [*drawn, *(rule["expr"] for rule in rules)]


@pytest.mark.parametrize("path", sorted(files()), ids=lambda path: path.name)
def test_the_files_are_those_that_the_list_makes(path: Path) -> None:
    assert path.read_text() == files()[path], "python -m supply.monitoring"


def test_every_metric_has_a_panel_and_no_query_asks_for_another() -> None:
    drawn = [query for panel in PANELS for query in panel.queries.values()]
    shown = set().union(*(metrics_in(query, METRICS) for query in drawn))
    assert shown == {metric.name for metric in METRICS}
    exported = {metric.exported for metric in METRICS if metric.kind != "histogram"}
    exported |= {f"{metric.exported}_bucket" for metric in METRICS if metric.kind == "histogram"}
    asked = {name for query in queries() for name in re.findall(r"\bray_\w+", query)}
    assert asked <= exported | set(OF_SERVE)


def test_names_end_with_their_unit_or_with_what_is_counted() -> None:
    for metric in METRICS:
        assert metric.name.startswith("everymask_")
        assert metric.name.rpartition("_")[2] in UNITS | THINGS, metric.name
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_the_documentation_names_every_metric() -> None:
    text = (FOLDER.parents[1] / "docs/how-to/monitoring.md").read_text()
    assert {metric.exported for metric in METRICS} <= set(re.findall(r"`(ray_\w+)`", text))


def test_no_panel_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not taken & cells
        taken |= cells
        assert place["x"] + place["w"] <= 24


def promtool(*arguments: str) -> str:
    if not PROMETHEUS.found():
        skip_without(PROMETHEUS)
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_prometheus_accepts_the_rules_and_the_configuration() -> None:
    assert "SUCCESS: 4 rules found" in promtool("check", "rules", str(FOLDER / "alerts.yaml"))
    promtool("check", "config", "--syntax-only", str(FOLDER / "prometheus.yaml"))


HEALTHY = "ray_serve_deployment_replica_healthy"
JOBS_ALERT = "EverymaskNoImageInFiveMinutes"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alert", "series", "fires_at"),
    [
        # Twelve images a minute, and then none while a thousand wait.
        (
            JOBS_ALERT,
            {
                "ray_everymask_job_images_waiting": "1000x160",
                "ray_everymask_job_images_in_work": "4x160",
                "ray_everymask_job_images_total": "0+3x80 240x80",
            },
            {"15m": False, "23m": False, "30m": True},
        ),
        # A job that waits for its first GPU has no counter yet.
        (
            JOBS_ALERT,
            {"ray_everymask_job_images_waiting": "1000x160", "ray_everymask_job_images_in_work": "0x160"},
            {"3m": False, "8m": True},
        ),
        # All is done.
        (
            JOBS_ALERT,
            {
                "ray_everymask_job_images_waiting": "0x160",
                "ray_everymask_job_images_in_work": "0x160",
                "ray_everymask_job_images_total": "200x160",
            },
            {"30m": False},
        ),
        (
            "EverymaskJobErrors",
            {
                "ray_everymask_job_images_total": "0+25x160",
                'ray_everymask_job_errors_total{error="it is lost"}': "0+1x80 80+3x80",
            },
            {"19m": False, "40m": True},
        ),
        (
            "EverymaskServiceErrors",
            {
                'ray_everymask_http_requests_total{status="200"}': "0+90x160",
                'ray_everymask_http_requests_total{status="503"}': "0+10x160",
            },
            {"20m": True},
        ),
        (
            "EverymaskServiceErrors",
            {
                'ray_everymask_http_requests_total{status="200"}': "0+90x160",
                'ray_everymask_http_requests_total{status="422"}': "0+10x160",
            },
            {"20m": False},
        ),
        (
            "EverymaskReplicaUnhealthy",
            {
                f'{HEALTHY}{{application="everymask",deployment="Encoder",replica="a"}}': "1x160",
                f'{HEALTHY}{{application="everymask",deployment="Encoder",replica="b"}}': "1x40 0x120",
            },
            {"10m": False, "20m": True},
        ),
    ],
)
def test_an_alert_fires_when_it_should(
    alert: str, series: dict[str, str], fires_at: dict[str, bool], tmp_path: Path
) -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
    (rule,) = [rule for rule in rules if rule["alert"] == alert]
    labels = {"deployment": "Encoder", "replica": "b"} if "replica" in rule["expr"] else {}
    said = {"exp_labels": {"severity": "warning"} | labels, "exp_annotations": rule["annotations"]}
    test = {
        "rule_files": [str(FOLDER / "alerts.yaml")],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [
                    {"eval_time": time, "alertname": alert, "exp_alerts": [said] if fires else []}
                    for time, fires in fires_at.items()
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    promtool("test", "rules", str(tmp_path / "test.yaml"))
