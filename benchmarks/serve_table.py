"""The figures of benchmarks/serve.py as a table."""

from __future__ import annotations

from typing import Any

Parts = dict[str, float]
"""Milliseconds by stage."""


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    load, mem = figures["overload"], figures["memory"]
    rows = []
    for name, title, aim in (
        ("entities", "POST /v1/entities", "≤ 40 ms"),
        ("points", "POST /v1/points, new image", "≤ 25 ms"),
    ):
        pair = figures[name]
        rows += [
            (f"{title}: library in-process, p50", f"{pair['library_ms']['p50']:.0f} ms", ""),
            (f"{title}: service, p50 / p99", spread(pair["service_ms"]), ""),
            (f"{title}: added, p50 of {pair['service_ms']['n']} pairs", f"{pair['added_p50_ms']:.1f} ms", aim),
            (f"{title}: parts in the library, p50", listed(pair["library_parts_ms"]), ""),
            (f"{title}: parts in the service, p50", listed(pair["service_parts_ms"]), ""),
        ]
    growth = f"{mem['growth_mib']:+.0f} of {mem['first_mib']:.0f} MiB"
    rows += [
        ("POST /v1/points, cached image, p50 / p99", spread(figures["cached_click_ms"]), "p50 ≤ 60 ms"),
        ("POST /v1/entities, same image again, p50 / p99", spread(figures["repeated_entities_ms"]), "p50 ≤ 60 ms"),
        ("GET /healthz, p50 / p99", spread(figures["health_ms"]), ""),
        (f"{load['clients']} clients at once, answers by status", str(load["statuses"]), "200 and 429 only"),
        ("accepted under overload, p50 / p99", spread(load["accepted_ms"]), ""),
        ("their p99 over the queue bound", f"{load['p99_over_queue_bound']:.2f}", "≤ 2"),
        ("mean batch under overload", f"{load['mean_batch_size']:.2f}", "> 1"),
        (f"memory over {mem['requests']} requests", growth, "flat"),
        (
            "100 masks of 12 megapixels: encoding in the library, p50",
            f"{figures['large_encoding_ms']['p50']:.0f} ms",
            "",
        ),
        ("the same: added by the RLE answer, p50", f"{figures['large_answer_ms']['p50']:.1f} ms", "< 100 ms"),
    ]
    lines = ["| figure | measured | aim |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {name} | {value} | {aim} |" for name, value, aim in rows])


def listed(parts: Parts) -> str:
    """Parts in one line."""
    return ", ".join(f"{name} {milliseconds:.1f}" for name, milliseconds in parts.items()) + " ms"


def spread(values: dict[str, float]) -> str:
    """p50 and p99."""
    return f"{values['p50']:.0f} / {values['p99']:.0f} ms"
