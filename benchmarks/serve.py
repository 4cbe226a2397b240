"""The published figures of the service: what HTTP and the graph add, clicks, overload, memory, large images.

    python benchmarks/serve.py --json figures.json

Starts `serve run` with the settings of serve/config/local.yaml in a process of its own, measures, and stops it.
Latencies are of one client at a time unless said otherwise; warm-up is left out. Run it on a Linux machine that does
nothing else.
"""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import tyro
import yaml
from PIL import Image

from everymask.backbone import load_backbone
from everymask.images import decode_image
from everymask.label_config import LabelConfig
from everymask.labelling import label_images
from everymask.masks.boxes import boxes_from_rles
from everymask.masks.rle import encode_label_map, rle_areas
from everymask.records import ImageLabels, LabelledMask

REPOSITORY = Path(__file__).resolve().parent.parent
CLICK = {"point_coords": "[[120, 90]]"}


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure the service."""

    config: Path = REPOSITORY / "serve/config/local.yaml"
    """Configuration that is measured; its port is replaced by a free one."""
    images: Path = REPOSITORY / "examples/images"
    """Photographs that are sent."""
    repeat: int = 30
    """Requests for each latency."""
    load_factor: int = 4
    """Overload: clients per request the service admits."""
    load_seconds: float = 30.0
    """Duration of the overload."""
    memory_requests: int = 2000
    """Requests over which memory must stay flat."""
    json: Path | None = None
    """Where the figures go as JSON."""


def main() -> None:
    """Measure everything and print a table."""
    options = tyro.cli(BenchmarkConfig)
    files = load_files(options.images)
    settings = yaml.safe_load(options.config.read_text())["applications"][0]["args"]
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at start",
        "settings": settings,
    }
    figures["in_process_ms"] = measure_library(settings, files, options.repeat)
    with running_service(options.config) as service:
        figures |= measure_service(service, settings, files, options)
    figures["added_p50_ms"] = figures["entities_ms"]["p50"] - figures["in_process_ms"]["p50"]
    figures["format_12_megapixels_ms"] = measure_large_answer()
    figures["load_at_end"] = os.getloadavg()[0]
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(table(figures))


# ---- what is measured ----------------------------------------------------------------------------------------------


def measure_library(settings: dict[str, Any], files: list[bytes], repeat: int) -> dict[str, float]:
    """The library called directly: decode, embed, label."""
    torch.set_num_threads(settings.get("torch_threads", 1))
    backbone = load_backbone(settings.get("model", "nano"), settings.get("checkpoint"), settings.get("device", "auto"))
    config = LabelConfig()

    def label(i: int) -> None:
        (labels,) = label_images(backbone, [decode_image(files[i % len(files)])], config)
        assert isinstance(labels, ImageLabels)

    return latencies(label, repeat, warm_up=len(files))


def measure_service(
    service: Service, settings: dict[str, Any], files: list[bytes], options: BenchmarkConfig
) -> dict[str, Any]:
    """Every figure that needs the service."""
    figures: dict[str, Any] = {}
    with httpx.Client(base_url=service.url, timeout=120) as http:

        def entities(i: int) -> None:
            http.post("/v1/entities", files={"image": files[i % len(files)]}).raise_for_status()

        figures["entities_ms"] = latencies(entities, options.repeat, warm_up=len(files))
        image_id = http.post("/v1/points", files={"image": files[0]}, data=CLICK).json()["image_id"]
        body = {"image_id": image_id, "point_coords": [[120, 90]]}

        def click(i: int) -> None:
            http.post("/v1/points", json=body).raise_for_status()

        figures["cached_click_ms"] = latencies(click, 4 * options.repeat, warm_up=10)
        figures["health_ms"] = latencies(lambda i: http.get("/healthz"), 4 * options.repeat, warm_up=10)
    admitted = settings.get("requests", {}).get("max_in_flight", 8)
    before = batch_sizes(service)
    figures["overload"] = overload(service, files, clients=options.load_factor * admitted, seconds=options.load_seconds)
    # Work waits in line for the model, so a full house should wait its length times the lone latency.
    bound = admitted * figures["entities_ms"]["p99"]
    figures["overload"]["p99_over_queue_bound"] = figures["overload"]["accepted_ms"]["p99"] / bound
    figures["overload"]["mean_batch_size"] = mean_batch_size(before, batch_sizes(service))
    figures["memory"] = memory(service, files, options.memory_requests)
    return figures


def overload(service: Service, files: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Clients that never wait, several times as many as the service admits."""
    deadline = time.monotonic() + seconds
    statuses: Counter[int] = Counter()
    accepted: list[float] = []
    refused: list[float] = []
    lock = threading.Lock()

    def client(first: int) -> None:
        with httpx.Client(base_url=service.url, timeout=120) as http:
            i = first
            while time.monotonic() < deadline:
                i += 1
                start = time.perf_counter()
                response = http.post("/v1/entities", files={"image": files[i % len(files)]})
                elapsed = (time.perf_counter() - start) * 1000
                with lock:
                    statuses[response.status_code] += 1
                    (accepted if response.status_code == 200 else refused).append(elapsed)
                if response.status_code == 429:
                    # Clients of the real world read Retry-After; these come back far sooner.
                    time.sleep(0.1)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return {
        "clients": clients,
        "seconds": seconds,
        "statuses": dict(statuses),
        "accepted_per_second": len(accepted) / seconds,
        "accepted_ms": summary(accepted),
        "refused_ms": summary(refused) if refused else None,
    }


def memory(service: Service, files: list[bytes], requests: int) -> dict[str, float]:
    """Resident memory of all processes of the service over many requests, in MiB.

    The first tenth fills pools and the embedding cache, so growth is counted from there.
    """
    small = [shrunk(file, 256) for file in files]
    samples: list[float] = []
    with httpx.Client(base_url=service.url, timeout=120) as http:
        for i in range(requests):
            http.post("/v1/points", files={"image": stamped(small[i % len(small)], i)}, data=CLICK).raise_for_status()
            if i % max(1, requests // 20) == 0:
                samples.append(service.resident_mib())
    settled = samples[len(samples) // 10 :]
    return {
        "requests": requests,
        "first_mib": settled[0],
        "last_mib": settled[-1],
        "growth_mib": settled[-1] - settled[0],
    }


def measure_large_answer() -> dict[str, float]:
    """RLE answer of 100 masks of a 12-megapixel image: from labels to JSON bytes."""
    from serve.answers import labels_answer

    labels = large_labels()

    def answer(i: int) -> None:
        labels_answer(labels, "0" * 64, False, "nano", 0.0, "rle").model_dump_json(exclude_none=True)

    return latencies(answer, 20, warm_up=3)


def large_labels() -> ImageLabels:
    """100 wavy regions that fill 4000 x 3000 pixels."""
    ys, xs = np.mgrid[0:3000, 0:4000]
    columns = np.clip((xs + 40 * np.sin(ys / 30)) // 400, 0, 9).astype(np.int32)
    rows = np.clip((ys + 40 * np.sin(xs / 30)) // 300, 0, 9).astype(np.int32)
    rles = encode_label_map(rows * 10 + columns, 100)
    areas, boxes = rle_areas(rles).tolist(), boxes_from_rles(rles).tolist()
    masks = tuple(
        LabelledMask(rle, (box[0], box[1], box[2], box[3]), area, 0.9, 0.9, (1.0, 1.0), 0.9)
        for rle, area, box in zip(rles, areas, boxes, strict=True)
    )
    return ImageLabels((3000, 4000), masks, 1.0)


# ---- the service ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """A running service."""

    url: str
    process: subprocess.Popen[bytes]
    temporary: Path

    def resident_mib(self) -> float:
        """Private memory of the proxy and every replica, in MiB, as Linux counts it."""
        parents: dict[int, int] = {}
        serving: list[int] = []
        for folder in Path("/proc").iterdir():
            try:
                pid = int(folder.name)
                parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if (folder / "cmdline").read_bytes().startswith((b"ray::ServeReplica", b"ray::ProxyActor")):
                    serving.append(pid)
            except (ValueError, OSError):  # no process, or gone meanwhile
                continue
        return sum(private_mib(pid) for pid in serving if descends(pid, self.process.pid, parents))


def descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    """Whether a process was started by another, or by one it started."""
    while pid in parents and pid != ancestor:
        pid = parents[pid]
    return pid == ancestor


def private_mib(pid: int) -> float:
    """Memory a process shares with no other, in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) / 1024


@contextmanager
def running_service(config: Path) -> Iterator[Service]:
    """`serve run` with this configuration on a free port, in a Ray of its own."""
    temporary = Path(tempfile.mkdtemp(prefix="em-", dir="/tmp"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    content = yaml.safe_load(config.read_text())
    content["http_options"] |= {"host": "127.0.0.1", "port": port}
    (temporary / "config.yaml").write_text(yaml.safe_dump(content))
    environment = {**os.environ, "RAY_TMPDIR": str(temporary), "RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)
    command = [str(Path(sys.executable).parent / "serve"), "run", str(temporary / "config.yaml")]
    with (temporary / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        await_ready(url, process, temporary / "log")
        yield Service(url, process, temporary)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
        shutil.rmtree(temporary, ignore_errors=True)


def await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the service answers, or fail with its log."""
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"the service did not start:\n{log.read_text()[-3000:]}")


def batch_sizes(service: Service) -> tuple[float, float]:
    """(batches, images) the encoder has had so far, from the service's own metrics."""
    (targets,) = service.temporary.glob("ray/prom_metrics_service_discovery.json")
    totals = {"count": 0.0, "sum": 0.0}
    for address in json.loads(targets.read_text())[0]["targets"]:
        for line in httpx.get(f"http://{address}/metrics", timeout=30).text.splitlines():
            for kind in totals:
                if line.startswith(f"ray_serve_actual_batch_size_{kind}{{"):
                    totals[kind] += float(line.rpartition(" ")[2])
    return totals["count"], totals["sum"]


def mean_batch_size(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Images per batch between two readings."""
    return (after[1] - before[1]) / max(1.0, after[0] - before[0])


# ---- images and numbers --------------------------------------------------------------------------------------------


def load_files(folder: Path) -> list[bytes]:
    """The photographs, no larger than 640 pixels, as JPEG files."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png", ".webp"))
    if not paths:
        raise SystemExit(f"{folder} holds no photographs; name another folder with --images")
    return [shrunk(path.read_bytes(), 640) for path in paths]


def shrunk(file: bytes, longest_side: int) -> bytes:
    """The image as a JPEG with sides up to `longest_side`."""
    image = Image.open(io.BytesIO(file)).convert("RGB")
    image.thumbnail((longest_side, longest_side))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def stamped(jpeg: bytes, number: int) -> bytes:
    """The same picture as another file, so that no cache knows it: trailing bytes are no part of a JPEG."""
    return jpeg + number.to_bytes(8, "big")


def latencies(call: Callable[[int], Any], repeat: int, warm_up: int) -> dict[str, float]:
    """Milliseconds of calls one after the other."""
    for i in range(warm_up):
        call(i)
    elapsed = []
    for i in range(repeat):
        start = time.perf_counter()
        call(i)
        elapsed.append((time.perf_counter() - start) * 1000)
    return summary(elapsed)


def summary(values: list[float]) -> dict[str, float]:
    """p50, p90, p99 and the number of values."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"p50": statistics.median(ordered), "p90": at(0.9), "p99": at(0.99), "n": len(ordered)}


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    load, mem = figures["overload"], figures["memory"]
    rows = [
        ("library in-process, entities, p50", f"{figures['in_process_ms']['p50']:.0f} ms", ""),
        ("POST /v1/entities, p50 / p99", spread(figures["entities_ms"]), ""),
        ("added by the service, p50", f"{figures['added_p50_ms']:.1f} ms", "≤ 25 ms"),
        ("POST /v1/points, cached image, p50 / p99", spread(figures["cached_click_ms"]), "p50 ≤ 60 ms"),
        ("GET /healthz, p50 / p99", spread(figures["health_ms"]), ""),
        (f"{load['clients']} clients at once, statuses", str(load["statuses"]), "200 and 429 only"),
        ("accepted under overload, p50 / p99", spread(load["accepted_ms"]), ""),
        ("accepted p99 over the queue bound", f"{load['p99_over_queue_bound']:.2f}", "≤ 2"),
        ("mean batch under overload", f"{load['mean_batch_size']:.2f}", "> 1"),
        (f"memory over {mem['requests']} requests", f"{mem['growth_mib']:+.0f} of {mem['first_mib']:.0f} MiB", "flat"),
        (
            "RLE answer, 100 masks, 12 megapixels, p50",
            f"{figures['format_12_megapixels_ms']['p50']:.1f} ms",
            "< 100 ms",
        ),
    ]
    lines = ["| figure | measured | aim |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {name} | {value} | {aim} |" for name, value, aim in rows])


def spread(values: dict[str, float]) -> str:
    """p50 and p99."""
    return f"{values['p50']:.0f} / {values['p99']:.0f} ms"


if __name__ == "__main__":
    main()
