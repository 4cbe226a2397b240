"""How fast the page of a large label store answers, and in how much memory: a synthetic store, one process at a time.

    python benchmarks/browse.py                                        100,000 images with 20 masks each
    python benchmarks/browse.py --images 1000000 --store /data/many    a million, in a store that is kept and used again

Prints, for a process that makes the index and for one that finds it made: seconds of wall clock and of CPU for each
question, all of them asked through the page's own HTTP handlers, and the process's peak memory, mapped files included.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tyro
from starlette.testclient import TestClient

from benchmarks.synthetic_store import write_synthetic_store
from browse.app import Page, build_app
from browse.collection import Collection
from browse.pictures import Pictures
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.labels.store import LabelStore
from everymask.review.queue import make_queue

QUESTIONS = {
    "first page": {},
    "a class": {"class": "3"},
    "a class with a low score": {"class": "5", "score": "-0.3"},
    "two classes, small masks": {"class": "1,2", "area": "-0.01"},
    "doubtful": {"doubt": "0.9-"},
    "many masks": {"masks": "35-"},
    "errors": {"show": "errors"},
    "part of an id": {"text": "99123"},
    "not corrected, by id": {"corrected": "no", "order": "id"},
}


@dataclass(frozen=True)
class Config:
    """What to measure."""

    images: int = 100_000
    """Images in the store."""
    masks: int = 20
    """Masks in each, on average."""
    store: Path | None = None
    """Folder of the store and its index, kept for later runs; by default a temporary one."""
    part: Literal["all", "index", "ask"] = "all"
    """`all` starts the processes `index` and `ask`."""


def main() -> None:
    config = tyro.cli(Config, description=__doc__)
    if config.part != "all":
        assert config.store is not None
        print(json.dumps(make_index(config.store) if config.part == "index" else ask(config.store)), flush=True)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = config.store or Path(made)
        if not (folder / "labels").exists():
            write_synthetic_store(str(folder), config.images, config.masks)
        for part in ("index", "ask"):
            subprocess.run([sys.executable, __file__, "--store", str(folder), "--part", part], check=True)


def make_index(folder: Path) -> dict[str, Any]:
    """Index a store that has no index."""
    for file in (folder / "cache").glob("*.*"):
        file.unlink()
    collection = Collection(LabelStore(str(folder)), folder / "cache")
    return {"process": "makes the index", **timed(collection.renew), "images": len(collection.view), **peak()}


def ask(folder: Path) -> dict[str, Any]:
    """Ask every question once, with an existing index."""
    collection = Collection(LabelStore(str(folder)), folder / "cache")
    pictures = Pictures(collection.store, AddressPolicy(), ImageLimits(), folder / "cache" / "thumbnails")
    http = TestClient(build_app(Page(collection, pictures, None, "ada"), ["testserver"]))
    seconds = {"opening": timed(collection.renew)}
    answers: dict[str, Any] = {}
    for name, parameters in QUESTIONS.items():

        def question(parameters: dict[str, str] = parameters) -> None:
            answers["page"] = http.get("/api/images", params=parameters).json()

        seconds[name] = timed(question)
        seconds[name]["matched"] = answers["page"]["matched"]
    first = http.get("/api/images", params={"show": "masks"}).json()["images"][0]
    seconds["classes of all, counted"] = timed(lambda: http.get("/api/classes"))
    seconds["one image"] = timed(lambda: http.get("/api/image", params={"id": first["id"]}))
    seconds["review queue of 200"] = timed(lambda: make_queue(collection.store, 200))
    wish = {"id": first["id"], "seen": first["seen"], "steps": [{"action": "confirm", "masks": "all"}]}
    body = {"annotator": "ada", "images": [wish]}
    seconds["a step"] = timed(lambda: http.post("/api/steps", json=body, headers={"X-Everymask": "browse"}))
    seconds["the first page after it"] = timed(lambda: http.get("/api/images"))
    for file in (folder / "corrections").glob("*"):
        file.unlink()
    return {"process": "finds it made", "seconds": seconds, **peak()}


def timed(work: Callable[[], object]) -> dict[str, Any]:
    """Seconds of wall clock and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall": round(time.perf_counter() - wall, 3), "cpu": round(time.process_time() - cpu, 3)}


def peak() -> dict[str, int]:
    """Peak memory in MiB."""
    return {"peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


if __name__ == "__main__":
    main()
