"""Files that hold images, and their images as a job lists and reads them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from data_jobs.labelling.inputs import ImageRef, list_images
from data_jobs.labelling.manifests import Manifest
from data_jobs.labelling.stages import load_bytes
from everymask.files.addresses import AddressPolicy
from everymask.files.location import Location
from everymask.images.decoding import ImageLimits

LIMITS = ImageLimits()
ANYTHING = AddressPolicy(trusted=("/",))


def picture(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = "w:gz" if path.suffix == ".gz" else "w"
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def samples(first: int, count: int) -> list[tuple[str, bytes]]:
    """WebDataset's: a picture and its JSON for each key."""
    return [
        member
        for number in range(first, first + count)
        for member in ((f"{number:04d}.png", picture(number)), (f"{number:04d}.json", b"{}"))
    ]


def listed(location: object) -> list[ImageRef]:
    return list(list_images(str(location)))


def ids(location: object) -> list[str]:
    return [image.image_id for image in listed(location)]


def loaded(images: list[ImageRef], folder: Path) -> list[tuple[str, str | None, bytes | None]]:
    """(id, error, bytes) as the reading stage gives them, through a manifest."""
    if not images:
        return []
    manifest = Manifest.at(Location.at(str(folder / "manifest"))).with_more(images)
    rows = pa.concat_tables(pq.read_table(file.path) for file in manifest.locations())
    found = load_bytes(rows, LIMITS, ANYTHING)
    return list(zip(*(found[name].to_pylist() for name in ("image_id", "error", "data")), strict=True))


def huggingface(path: Path, numbers: range, **columns: object) -> Path:
    """As `datasets` writes images: a struct of bytes and path, in small row groups."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": picture(number), "path": f"{number}.png"} for number in numbers]
    table = pa.table({"image": images, "label": list(numbers), **columns})
    pq.write_table(table, path, row_group_size=7)
    return path


def saved(folder: Path, split: str, numbers: range, rows: int = 4, **more: list[object]) -> Path:
    """As `save_to_disk` writes a split: a stream of batches in a file, and what it is of beside it."""
    (folder / split).mkdir(parents=True)
    images = [{"bytes": picture(number), "path": f"{number}.png"} for number in numbers]
    table = pa.table({"label": list(numbers), "image": images, **more})
    path = folder / split / "data-00000-of-00001.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    (folder / split / "state.json").write_text("{}")
    (folder / "dataset_dict.json").write_text('{"splits": ["train"]}')
    return path


def pages_of(mode: str, count: int = 3) -> list[Image.Image]:
    """Pictures of 20 x 16 pixels, each of another brightness."""
    kinds = {"I;16": np.uint16, "F": np.float32}
    base = np.arange(320).reshape(16, 20)
    return [
        Image.fromarray((base * 20 + 300 * number).astype(kinds[mode]))
        if mode in kinds
        else Image.new("RGB", (20, 16), (40 * number, 90, 200)).convert(mode)
        for number in range(count)
    ]


def multipage(path: Path, mode: str, count: int = 3) -> Path:
    first, *others = pages_of(mode, count)
    first.save(path, save_all=True, append_images=others)
    return path


def animation(path: Path, count: int = 2) -> Path:
    first, *others = [Image.new("RGB", (20, 16), (60 * number, 10, 250)) for number in range(count)]
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=others, duration=100, **lossless)
    return path
