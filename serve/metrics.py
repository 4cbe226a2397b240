"""Prometheus metrics, of those that `everymask.metrics` lists. Serve adds deployment and replica as labels."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from ray.serve.metrics import Counter, Gauge, Histogram

from everymask import metrics
from everymask.backbone.memory import held_bytes
from everymask.metrics import Metric

_LATENCY_MS: list[float] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000]


def _counter(metric: Metric) -> Counter:
    return Counter(metric.name, description=metric.description, tag_keys=_tags(metric))


def _gauge(metric: Metric) -> Gauge:
    return Gauge(metric.name, description=metric.description, tag_keys=_tags(metric))


def _latency(metric: Metric) -> Histogram:
    return Histogram(metric.name, metric.description, _LATENCY_MS, _tags(metric))


def _tags(metric: Metric) -> Any:
    """Ray declares a tuple of one, and takes any."""
    return metric.tags


class StageTimer:
    """`everymask_stage_latency_ms{stage}`; docs/service.md describes the stages."""

    def __init__(self) -> None:
        self._histogram = _latency(metrics.STAGE_LATENCY_MS)

    @contextmanager
    def __call__(self, stage: str, spent: dict[str, float]) -> Iterator[None]:
        """Time a block, whether or not it succeeds, and record the milliseconds in `spent` too."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent[stage] = (time.perf_counter() - start) * 1000
            self.observe({stage: spent[stage]})

    def observe(self, spent: dict[str, float]) -> None:
        """Record stages that were timed elsewhere, in milliseconds."""
        for stage, milliseconds in spent.items():
            self._histogram.observe(milliseconds, tags={"stage": stage})


def server_timing(spent: dict[str, float]) -> str:
    """The stages of one request as a `Server-Timing` header."""
    return ", ".join(f"{stage};dur={milliseconds:.1f}" for stage, milliseconds in spent.items())


class EncoderMetrics:
    """`everymask_encoder_{images,batches}`.

    Their quotient is the mean batch size; Serve's own histogram of it has no exact sum, because Ray adds up bucket
    middles.
    """

    def __init__(self) -> None:
        self._images = _counter(metrics.ENCODER_IMAGES)
        self._batches = _counter(metrics.ENCODER_BATCHES)

    def encodes(self, images: int) -> None:
        self._images.inc(images)
        self._batches.inc()


class CacheMetrics:
    """`everymask_embedding_cache_{hits,misses,bytes,entries}`."""

    def __init__(self) -> None:
        self._hits = _counter(metrics.CACHE_HITS)
        self._misses = _counter(metrics.CACHE_MISSES)
        self._bytes = _gauge(metrics.CACHE_BYTES)
        self._entries = _gauge(metrics.CACHE_ENTRIES)

    def looked_up(self, found: bool) -> None:
        (self._hits if found else self._misses).inc()

    def holds(self, entries: int, held_bytes: int) -> None:
        """Record what the cache holds now."""
        self._entries.set(entries)
        self._bytes.set(held_bytes)


class MemoryMetrics:
    """`everymask_memory_bytes{device}`: of this replica."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held = _gauge(metrics.SERVICE_MEMORY_BYTES)

    def tell(self) -> None:
        """Record what is held now."""
        self._held.set(held_bytes(self._device), tags={"device": self._device.type})


class HttpMetrics:
    """`everymask_http_requests{route,status}`, `everymask_http_latency_ms{route}`, `everymask_in_flight`."""

    def __init__(self) -> None:
        self._requests = _counter(metrics.HTTP_REQUESTS)
        self._latency = _latency(metrics.HTTP_LATENCY_MS)
        self._in_flight = _gauge(metrics.IN_FLIGHT)

    def answered(self, route: str, status: int, seconds: float) -> None:
        self._requests.inc(tags={"route": route, "status": str(status)})
        self._latency.observe(seconds * 1000, tags={"route": route})

    def in_flight(self, count: int) -> None:
        self._in_flight.set(count)
