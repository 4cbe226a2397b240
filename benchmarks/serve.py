"""The published figures of the service: what HTTP and the graph add, clicks, overload, memory, large answers.

    python benchmarks/serve.py --json figures.json

Starts `everymask serve` with the settings of serve/config/local.yaml, measures, and stops it. Two things differ from
`make serve`: the embedding cache is small, so that it is full early, and Ray's workers have the priority of this
process. Latencies are of one client at a time unless said otherwise. What the service adds is the median of pairs: the
library in this process, then the service, on the same image. Every step has a time limit; all together take less than
four minutes. Run it on a Linux machine that does nothing else.
"""

from __future__ import annotations

import os

# As in the service's replicas, and before NumPy reads it: the library must not have more threads than they have.
os.environ["OMP_NUM_THREADS"] = "1"

import json
import platform
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import tyro
import yaml
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parent.parent
# In this file's own folder, `serve` would be this file and not the package.
sys.path[0] = str(REPOSITORY)

from benchmarks.serve_files import load_files, shrunk, unseen  # noqa: E402
from benchmarks.serve_table import Parts, table  # noqa: E402
from everymask.backbone.embedding import embed_images  # noqa: E402
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone  # noqa: E402
from everymask.backbone.registry import load_backbone  # noqa: E402
from everymask.images.decoding import decode_image  # noqa: E402
from everymask.labelling.clicks import ClickPrompt, segment_clicks  # noqa: E402
from everymask.labelling.label import label_embedding  # noqa: E402
from everymask.masks.rle import (  # noqa: E402
    boxes_from_rles,
    encode_label_map,
    rle_areas,
)
from everymask.records import ImageLabels, LabelledMask  # noqa: E402
from serve.answers import labels_answer  # noqa: E402
from serve.settings import ServiceSettings, read_settings  # noqa: E402
from tests.serve.running_service import RunningService, start_service  # noqa: E402

CACHE_MIB = 64
FORM = {"point_coords": "[[120, 90]]"}
PROMPT = ClickPrompt(((120.0, 90.0),), (1,))


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure the service."""

    config: Path = REPOSITORY / "serve/config/local.yaml"
    """Configuration whose `args` are measured."""
    images: Path = REPOSITORY / "examples/images"
    """Photographs that are sent, no larger than 640 pixels."""
    pair_seconds: float = 30.0
    """Duration of each comparison with the library; at least three pairs."""
    clicks: int = 200
    """Clicks on a cached image."""
    load_factor: int = 4
    """Overload: clients per request the service admits."""
    load_seconds: float = 25.0
    """Duration of the overload."""
    memory_requests: int = 2000
    """Requests over which memory must stay flat: a new image in every tenth, clicks on it in the others."""
    memory_seconds: float = 90.0
    """Stop watching memory after this time, whatever the number of requests."""
    json: Path | None = None
    """Where the figures go as JSON."""


def main() -> None:
    """Measure everything and print a table."""
    options = tyro.cli(BenchmarkConfig)
    # So that the service is stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    files = load_files(options.images)
    args = yaml.safe_load(options.config.read_text())["applications"][0]["args"]
    args |= {"embedding_cache_mib": CACHE_MIB, "server_timing": True}
    settings = read_settings(args)
    torch.set_num_threads(settings.torch_threads)
    backbone = load_backbone(settings.model, settings.checkpoint, settings.device)
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at start",
        "args": args,
    } | measure_large_answer()
    with start_service(args, settings.head_folders[0]) as service, service.client() as http:
        progress("service is up; comparing with the library")
        figures |= compare_with_library(http, backbone, settings, files, options.pair_seconds)
        progress("clicks on a cached image")
        figures |= cached_clicks(http, files[0], options.clicks)
        figures["repeated_entities_ms"] = repeated_entities(http, files[0], options.clicks // 4)
        progress("overload")
        figures["overload"] = overload(service, settings, files, options)
        # Work waits in line for the model, so a full house should wait its length times the lone latency.
        bound = settings.requests.max_in_flight * figures["points"]["service_ms"]["p50"]
        figures["overload"]["p99_over_queue_bound"] = figures["overload"]["accepted_ms"]["p99"] / bound
        progress("memory")
        figures["memory"] = memory(service, files, options.memory_requests, options.memory_seconds)
    figures["load_at_end"] = os.getloadavg()[0]
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(table(figures))


def progress(step: str) -> None:
    """Report progress, apart from the table."""
    print(f"{time.strftime('%H:%M:%S')} {step}", file=sys.stderr, flush=True)


# ---- what is measured ----------------------------------------------------------------------------------------------


def compare_with_library(
    http: httpx.Client, backbone: PromptableBackbone, settings: ServiceSettings, files: list[bytes], seconds: float
) -> dict[str, Any]:
    """The same image by the library in this process and by the service: entities, and a click on a new image."""
    config = replace(settings.labels, method="entities")

    def entities(file: bytes) -> Parts:
        parts: Parts = {}
        embedding = embedded(backbone, file, parts)
        with timed(parts, "entities"):
            label_embedding(backbone, embedding, config)
        return parts

    def click(file: bytes) -> Parts:
        parts: Parts = {}
        embedding = embedded(backbone, file, parts)
        with timed(parts, "clicks"):
            segment_clicks(backbone, embedding, PROMPT)
        return parts

    def post(path: str, **form: Any) -> Callable[[bytes], Parts]:
        def ask(file: bytes) -> Parts:
            answer = http.post(path, files={"image": file}, **form).raise_for_status()
            assert answer.json()["embedding_cache"] == "miss"
            return server_parts(answer)

        return ask

    return {
        "entities": pairs(entities, post("/v1/entities"), files, seconds),
        "points": pairs(click, post("/v1/points", data=FORM), files, seconds),
    }


@contextmanager
def timed(parts: Parts, name: str) -> Iterator[None]:
    """Record a block's duration."""
    start = time.perf_counter()
    yield
    parts[name] = (time.perf_counter() - start) * 1000


def embedded(backbone: PromptableBackbone, file: bytes, parts: Parts) -> ImageEmbedding:
    """An image's embedding, by the library."""
    with timed(parts, "decode"):
        image = decode_image(file)
    with timed(parts, "embed"):
        (embedding,) = embed_images(backbone, [image])
    assert isinstance(embedding, ImageEmbedding)
    return embedding


def server_parts(answer: httpx.Response) -> Parts:
    """The service's own times by part."""
    stages = (part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    return {name: float(milliseconds) for name, milliseconds in stages}


def pairs(
    library: Callable[[bytes], Parts], service: Callable[[bytes], Parts], files: list[bytes], seconds: float
) -> dict[str, Any]:
    """Latencies of both, the median of their differences, and of every part, over pairs with images not sent before."""
    library(files[0])
    service(unseen(files[0]))
    deadline = time.monotonic() + seconds
    ours: list[float] = []
    theirs: list[float] = []
    our_parts: list[Parts] = []
    their_parts: list[Parts] = []
    while time.monotonic() < deadline or len(ours) < 3:
        file = unseen(files[len(ours) % len(files)])
        for call, times, parts in ((library, ours, our_parts), (service, theirs, their_parts)):
            start = time.perf_counter()
            found = call(file)
            times.append((time.perf_counter() - start) * 1000)
            # What is not in any part: for the service, HTTP, the proxy, and the way to the ingress.
            parts.append({**found, "rest": times[-1] - sum(found.values())})
    added = statistics.median(late - soon for late, soon in zip(theirs, ours, strict=True))
    return {
        "library_ms": summary(ours),
        "service_ms": summary(theirs),
        "added_p50_ms": added,
        "library_parts_ms": medians(our_parts),
        "service_parts_ms": medians(their_parts),
    }


def medians(parts: list[Parts]) -> Parts:
    """The median of each part."""
    return {name: statistics.median(found[name] for found in parts) for name in parts[0]}


def repeated_entities(http: httpx.Client, file: bytes, repeat: int) -> dict[str, float]:
    """The entities of an image that was just sent, sent again."""
    file = unseen(file)

    def ask(_: bytes) -> None:
        http.post("/v1/entities", files={"image": file}).raise_for_status()

    ask(file)
    return summary([milliseconds(ask, file) for _ in range(repeat)])


def cached_clicks(http: httpx.Client, file: bytes, repeat: int) -> dict[str, Any]:
    """Clicks on one image with a cached embedding, and the shortest possible request."""
    image_id = http.post("/v1/points", files={"image": file}, data=FORM).json()["image_id"]
    body = {"image_id": image_id, "point_coords": [[120, 90]]}

    def click(_: bytes) -> None:
        assert http.post("/v1/points", json=body).json()["embedding_cache"] == "hit"

    def health(_: bytes) -> None:
        http.get("/healthz").raise_for_status()

    return {
        name: summary([milliseconds(call, file) for _ in range(10 + repeat)][10:])
        for name, call in (("cached_click_ms", click), ("health_ms", health))
    }


def overload(
    service: RunningService, settings: ServiceSettings, files: list[bytes], options: BenchmarkConfig
) -> dict[str, Any]:
    """Clients that click on new images without a pause, several times as many as the service admits."""
    clients = options.load_factor * settings.requests.max_in_flight
    statuses: Counter[str] = Counter()
    accepted: list[float] = []
    lock = threading.Lock()
    before = service.metrics()
    deadline = time.monotonic() + options.load_seconds

    def client(number: int) -> None:
        with service.client() as http:
            i = number
            while time.monotonic() < deadline:
                i += 1
                start = time.perf_counter()
                try:
                    image = unseen(files[i % len(files)])
                    response = http.post("/v1/points", files={"image": image}, data=FORM)
                    status = str(response.status_code)
                except httpx.TransportError as error:
                    status = type(error).__name__
                elapsed = (time.perf_counter() - start) * 1000
                with lock:
                    statuses[status] += 1
                    if status == "200":
                        accepted.append(elapsed)
                if status != "200":
                    # Far sooner than Retry-After asks for, yet leaving the service some of this machine.
                    time.sleep(0.5)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    # The last batches come with the next report to Prometheus, a second later.
    time.sleep(3)
    after = service.metrics()
    names = [f"ray_everymask_encoder_{what}_total{{}}" for what in ("images", "batches")]
    images, batches = (after[name] - before[name] for name in names)
    return {
        "clients": clients,
        "seconds": options.load_seconds,
        "statuses": dict(statuses),
        "accepted_per_second": len(accepted) / options.load_seconds,
        "accepted_ms": summary(accepted),
        "mean_batch_size": images / batches,
    }


def memory(service: RunningService, files: list[bytes], requests: int, seconds: float) -> dict[str, float]:
    """Private memory of all processes of the service over many requests, in MiB.

    The first fifth fills pools and the embedding cache, so growth is counted from there, between the medians of the
    first and the last five samples.
    """
    small = [shrunk(file, 256) for file in files]
    samples: list[float] = []
    image_id = ""
    deadline = time.monotonic() + seconds
    with service.client() as http:
        for i in range(requests):
            if time.monotonic() > deadline:
                break
            if i % 10 == 0:
                image = unseen(small[i // 10 % len(small)])
                response = http.post("/v1/points", files={"image": image}, data=FORM).raise_for_status()
                image_id = response.json()["image_id"]
            else:
                body = {"image_id": image_id, "point_coords": [[i % 100, 60]]}
                http.post("/v1/points", json=body).raise_for_status()
            if i % 40 == 0:
                samples.append(service.private_mib())
    settled = samples[len(samples) // 5 :]
    first, last = statistics.median(settled[:5]), statistics.median(settled[-5:])
    return {"requests": i + 1, "first_mib": first, "last_mib": last, "growth_mib": last - first}


def measure_large_answer() -> dict[str, Any]:
    """100 masks of a 12-megapixel image: run-length encoding, which is the library's, then labels to JSON bytes."""
    ys, xs = np.mgrid[0:3000, 0:4000]
    columns = np.clip((xs + 40 * np.sin(ys / 30)) // 400, 0, 9).astype(np.int32)
    rows = np.clip((ys + 40 * np.sin(xs / 30)) // 300, 0, 9).astype(np.int32)
    label_map = rows * 10 + columns
    labels = labels_of(label_map, 100)

    def answer(_: bytes) -> None:
        labels_answer(labels, "0" * 64, False, "nano", 0.0, "rle").model_dump_json(exclude_none=True)

    return {
        "large_encoding_ms": summary(
            [milliseconds(lambda _: encode_label_map(label_map, 100), b"") for _ in range(10)]
        ),
        "large_answer_ms": summary([milliseconds(answer, b"") for _ in range(20)]),
    }


def labels_of(label_map: NDArray[np.int32], count: int) -> ImageLabels:
    """Masks that fill an image."""
    rles = encode_label_map(label_map, count)
    areas, boxes = rle_areas(rles).tolist(), boxes_from_rles(rles).tolist()
    masks = tuple(
        LabelledMask(rle, (box[0], box[1], box[2], box[3]), area, 0.9, 0.9, (1.0, 1.0), 0.9)
        for rle, area, box in zip(rles, areas, boxes, strict=True)
    )
    return ImageLabels((label_map.shape[0], label_map.shape[1]), masks, 1.0)


# ---- numbers --------------------------------------------------------------------------------------------------------


def milliseconds(call: Callable[[bytes], object], file: bytes) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call(file)
    return (time.perf_counter() - start) * 1000


def summary(values: list[float]) -> dict[str, float]:
    """p50, p90, p99 and the number of values."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"p50": statistics.median(ordered), "p90": at(0.9), "p99": at(0.99), "n": len(ordered)}


if __name__ == "__main__":
    main()
