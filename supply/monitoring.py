"""The dashboard and the alerts, from the one list of metrics: `python -m supply.monitoring` writes them anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from everymask import metrics
from everymask.metrics import Metric

FOLDER = Path(__file__).resolve().parents[1] / "cluster" / "monitoring"
INTERVAL = "$__rate_interval"
"""Grafana's: long enough for two scrapes."""
RANGE = "$__range"
"""The time that the dashboard shows."""
OF_SERVE = ("ray_serve_deployment_replica_healthy", "ray_serve_deployment_queued_queries")
"""Ray Serve's own metrics that are used."""
_FAULTS = '{status=~"5.."}'
_HEAD = "# Made by `python -m supply.monitoring`, from everymask/metrics.py and supply/monitoring.py.\n"


@dataclass(frozen=True)
class Panel:
    """One diagram.

    Attributes:
        title: with the unit in words.
        unit: Grafana's name of it.
        queries: PromQL by legend; `{{label}}` in a legend is a label's value.
    """

    title: str
    unit: str
    queries: dict[str, str]


def _rate(metric: Metric, by: str = "") -> str:
    """Per second, over all processes, or for each value of a label."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric.exported}[{INTERVAL}]))"


def _increase(metric: Metric) -> str:
    return f"sum(increase({metric.exported}[{RANGE}]))"


def _quantile(share: float, metric: Metric, by: str = "") -> str:
    labels = ", ".join(["le", *([by] if by else [])])
    return f"histogram_quantile({share:g}, sum by ({labels}) (rate({metric.exported}_bucket[{INTERVAL}])))"


JOB_PANELS = (
    Panel("Images a second", "short", {"images": _rate(metrics.JOB_IMAGES)}),
    Panel("Errors a second, by kind", "short", {"{{error}}": _rate(metrics.JOB_ERRORS, "error")}),
    Panel("Masks a second", "short", {"masks": _rate(metrics.JOB_MASKS)}),
    Panel("Bytes of images a second", "Bps", {"bytes": _rate(metrics.JOB_FILE_BYTES)}),
    Panel("Workers in each stage", "short", {"{{stage}}": _rate(metrics.JOB_STAGE_SECONDS, "stage")}),
    Panel(
        "Share of the workers' time in which GPUs computed",
        "percentunit",
        {"busy": f"{_rate(metrics.JOB_DEVICE_SECONDS)} / {_rate(metrics.JOB_WORKER_SECONDS)}"},
    ),
    Panel("Memory of labellers", "bytes", {"{{device}}": f"sum by (device) ({metrics.JOB_MEMORY_BYTES.exported})"}),
    Panel(
        "Images in work, and waiting",
        "short",
        {"in work": f"sum({metrics.JOB_IN_WORK.exported})", "waiting": f"sum({metrics.JOB_WAITING.exported})"},
    ),
    Panel(
        "Parts written and shards sealed, in the time shown",
        "short",
        {"parts": _increase(metrics.JOB_PARTS), "shards": _increase(metrics.JOB_SHARDS_SEALED)},
    ),
)
SERVICE_PANELS = (
    Panel("Answers a second, by status", "short", {"{{status}}": _rate(metrics.HTTP_REQUESTS, "status")}),
    Panel(
        "Time of an answer",
        "ms",
        {f"{share:.0%}": _quantile(share, metrics.HTTP_LATENCY_MS) for share in (0.5, 0.95)},
    ),
    Panel("Time in each stage, 95 %", "ms", {"{{stage}}": _quantile(0.95, metrics.STAGE_LATENCY_MS, "stage")}),
    Panel("Requests in flight", "short", {"in flight": f"sum({metrics.IN_FLIGHT.exported})"}),
    Panel("Images encoded a second", "short", {"images": _rate(metrics.ENCODER_IMAGES)}),
    Panel(
        "Images in a batch", "short", {"mean": f"{_rate(metrics.ENCODER_IMAGES)} / {_rate(metrics.ENCODER_BATCHES)}"}
    ),
    Panel(
        "Share of requests with a kept embedding",
        "percentunit",
        {"hits": f"{_rate(metrics.CACHE_HITS)} / ({_rate(metrics.CACHE_HITS)} + {_rate(metrics.CACHE_MISSES)})"},
    ),
    Panel("Memory of kept embeddings", "bytes", {"bytes": f"sum({metrics.CACHE_BYTES.exported})"}),
    Panel("Kept embeddings", "short", {"embeddings": f"sum({metrics.CACHE_ENTRIES.exported})"}),
    Panel(
        "Memory of encoders and refiners",
        "bytes",
        {"{{deployment}} {{device}}": f"sum by (deployment, device) ({metrics.SERVICE_MEMORY_BYTES.exported})"},
    ),
)
PANELS = (*JOB_PANELS, *SERVICE_PANELS)


@dataclass(frozen=True)
class Alert:
    """When somebody should be told.

    Attributes:
        name: without the project's.
        query: PromQL that gives something while it is so.
        lasting: for how long it must be so.
        summary: one sentence with what to do.
    """

    name: str
    query: str
    lasting: str
    summary: str


def _share(part: Metric, whole: Metric, only: str = "") -> str:
    return f"sum(rate({part.exported}{only}[10m])) / sum(rate({whole.exported}[10m]))"


ALERTS = (
    Alert(
        "NoImageInFiveMinutes",
        f"sum({metrics.JOB_WAITING.exported}) + sum({metrics.JOB_IN_WORK.exported}) > 0 "
        f"unless sum(increase({metrics.JOB_IMAGES.exported}[1m])) > 0",
        "5m",
        "A job has images to label and finished none in five minutes: its log says whether it waits for a machine.",
    ),
    Alert(
        "JobErrors",
        f"{_share(metrics.JOB_ERRORS, metrics.JOB_IMAGES)} > 0.05",
        "5m",
        "More than 5 % of a job's images fail: the panel of errors by kind, and `everymask report`, say why.",
    ),
    Alert(
        "ServiceErrors",
        f"{_share(metrics.HTTP_REQUESTS, metrics.HTTP_REQUESTS, _FAULTS)} > 0.05",
        "5m",
        "More than 5 % of the service's answers are its own faults or refusals for want of capacity.",
    ),
    Alert(
        "ReplicaUnhealthy",
        f'min by (deployment, replica) ({OF_SERVE[0]}{{application="everymask"}}) == 0',
        "2m",
        "A replica of the service is unhealthy for two minutes: `serve status` and its log say why.",
    ),
)


def dashboard() -> dict[str, Any]:
    """Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, group in (("Job", JOB_PANELS), ("Service", SERVICE_PANELS)):
        panels.append({"type": "row", "title": title, "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}, "panels": []})
        y += 1
        for index, panel in enumerate(group):
            place = {"h": 7, "w": 8, "x": 8 * (index % 3), "y": y + 7 * (index // 3)}
            panels.append(_panel(panel, place))
        y += 7 * -(-len(group) // 3)
    for number, drawn in enumerate(panels, start=1):
        drawn["id"] = number
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    return {
        "uid": "everymask",
        "title": "everymask",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    queries = [
        {"refId": chr(65 + index), "expr": query, "legendFormat": legend, "datasource": source}
        for index, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "gridPos": place,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": queries,
    }


def rules() -> dict[str, Any]:
    """Prometheus's rules."""
    return {
        "groups": [
            {
                "name": "everymask",
                "rules": [
                    {
                        "alert": f"Everymask{alert.name}",
                        "expr": alert.query,
                        "for": alert.lasting,
                        "labels": {"severity": "warning"},
                        "annotations": {"summary": alert.summary},
                    }
                    for alert in ALERTS
                ],
            }
        ]
    }


def rules_of_the_operator() -> dict[str, Any]:
    """The same for the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "everymask", "namespace": "everymask", "labels": {"release": "prometheus"}},
        "spec": rules(),
    }


def files() -> dict[Path, str]:
    """Every file that is made here, by its path, with its contents."""
    return {
        FOLDER / "dashboard.json": json.dumps(dashboard(), indent=1) + "\n",
        FOLDER / "alerts.yaml": _HEAD + _yaml(rules()),
        FOLDER / "rule.yaml": _HEAD + _yaml(rules_of_the_operator()),
    }


def _yaml(content: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(content, sort_keys=False, width=120)
    return text


def metrics_in(query: str, known: Sequence[Metric]) -> set[str]:
    """Names of those metrics that a query asks for."""
    return {metric.name for metric in known if metric.exported in query}


if __name__ == "__main__":
    for path, content in files().items():
        path.write_text(content)
        print(path.name)
