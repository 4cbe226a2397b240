"""The one list of what jobs and services count. Their code, the dashboard, the alerts and the documentation follow it.

Ray puts `ray_` before each name, and `_total` behind a counter's. Names hold their unit, unless it is things counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: without what Ray adds.
        kind: as Prometheus has it.
        description: one sentence.
        tags: names of its labels.
    """

    name: str
    kind: Kind
    description: str
    tags: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """Its name in Prometheus; a histogram has `_bucket`, `_sum` and `_count` behind it."""
        return f"ray_{self.name}{'_total' if self.kind == 'counter' else ''}"


JOB_IMAGES = Metric("everymask_job_images", "counter", "Images finished by jobs, errors included.")
JOB_ERRORS = Metric("everymask_job_errors", "counter", "Images that failed, by the kind of error.", ("error",))
JOB_MASKS = Metric("everymask_job_masks", "counter", "Masks found by jobs.")
JOB_FILE_BYTES = Metric("everymask_job_file_bytes", "counter", "Bytes of the files of finished images.")
JOB_STAGE_SECONDS = Metric(
    "everymask_job_stage_seconds",
    "counter",
    "Seconds of stages, summed over workers: read, decode, embed, prompts, refine, write.",
    ("stage",),
)
JOB_DEVICE_SECONDS = Metric(
    "everymask_job_device_seconds", "counter", "Seconds that GPUs, or models on CPUs, computed."
)
JOB_WORKER_SECONDS = Metric("everymask_job_worker_seconds", "counter", "Seconds that labellers were there.")
JOB_MEMORY_BYTES = Metric(
    "everymask_job_memory_bytes",
    "gauge",
    "Memory of labellers: what they hold of GPUs, or their processes' on CPUs.",
    ("device",),
)
JOB_IN_WORK = Metric("everymask_job_images_in_work", "gauge", "Images that labellers have and have not finished.")
JOB_WAITING = Metric("everymask_job_images_waiting", "gauge", "Images that are listed and not begun.")
JOB_PARTS = Metric("everymask_job_parts", "counter", "Parts written to label stores.")
JOB_SHARDS_SEALED = Metric("everymask_job_shards_sealed", "counter", "Shards sealed.")

JOB = (
    JOB_IMAGES,
    JOB_ERRORS,
    JOB_MASKS,
    JOB_FILE_BYTES,
    JOB_STAGE_SECONDS,
    JOB_DEVICE_SECONDS,
    JOB_WORKER_SECONDS,
    JOB_MEMORY_BYTES,
    JOB_IN_WORK,
    JOB_WAITING,
    JOB_PARTS,
    JOB_SHARDS_SEALED,
)
"""Metrics of `everymask label`."""

HTTP_REQUESTS = Metric("everymask_http_requests", "counter", "Answers, by route and status.", ("route", "status"))
HTTP_LATENCY_MS = Metric(
    "everymask_http_latency_ms", "histogram", "From a request's first byte to its answer.", ("route",)
)
IN_FLIGHT = Metric("everymask_in_flight", "gauge", "Requests admitted and not answered yet.")
STAGE_LATENCY_MS = Metric(
    "everymask_stage_latency_ms", "histogram", "Time one request or one batch spent in a stage.", ("stage",)
)
ENCODER_IMAGES = Metric("everymask_encoder_images", "counter", "Images encoded.")
ENCODER_BATCHES = Metric("everymask_encoder_batches", "counter", "Batches they were encoded in.")
CACHE_HITS = Metric("everymask_embedding_cache_hits", "counter", "Requests answered from a kept embedding.")
CACHE_MISSES = Metric("everymask_embedding_cache_misses", "counter", "Embeddings asked for and not there.")
CACHE_BYTES = Metric("everymask_embedding_cache_bytes", "gauge", "Memory of the embeddings kept.")
CACHE_ENTRIES = Metric("everymask_embedding_cache_entries", "gauge", "Embeddings kept.")
SERVICE_MEMORY_BYTES = Metric(
    "everymask_memory_bytes",
    "gauge",
    "Memory of encoders and refiners: what they hold of GPUs, or their processes' on CPUs.",
    ("device",),
)

SERVICE = (
    HTTP_REQUESTS,
    HTTP_LATENCY_MS,
    IN_FLIGHT,
    STAGE_LATENCY_MS,
    ENCODER_IMAGES,
    ENCODER_BATCHES,
    CACHE_HITS,
    CACHE_MISSES,
    CACHE_BYTES,
    CACHE_ENTRIES,
    SERVICE_MEMORY_BYTES,
)
"""Metrics of the service."""
