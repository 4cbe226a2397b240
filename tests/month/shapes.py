"""The collection of the month: drawn things of two classes on noise, in tar shards, and pictures of single things."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("disc", "bar")
SIZE_HW = (72, 96)
_COLOURS = {"disc": (205, 40, 40), "bar": (40, 60, 225)}
_SHARDS = 20
_EXEMPLARS = 12


def picture(seed: int, names: tuple[str, ...] = CLASSES) -> bytes:
    """A PNG without compression, so that another one of the same size takes its place in a shard."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(90, 150, (*SIZE_HW, 3), dtype=np.uint8)
    for name in names:
        pixels[_region(name, draw)] = _COLOURS[name]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


def _region(name: str, draw: np.random.Generator) -> NDArray[np.bool_]:
    """A disc in the left half, or a bar in the right one."""
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    centre_y, centre_x, radius = draw.integers(22, 50), draw.integers(18, 30), draw.integers(9, 15)
    if name == "disc":
        return np.hypot(y - centre_y, x - centre_x) < radius
    return (abs(y - centre_y) < radius // 2) & (abs(x - centre_x - 46) < radius)


def write_shards(folder: Path, images: int, seed: int) -> str:
    """Tar shards in WebDataset's form; what `--input` takes."""
    folder.mkdir(parents=True)
    for shard, numbers in enumerate(np.array_split(np.arange(images), _SHARDS)):
        with tarfile.open(folder / f"train-{shard:04d}.tar", "w") as tar:
            for number in numbers.tolist():
                data = picture(1_000_000 * (seed + 1) + number, CLASSES[: 1 + number % 2])
                info = tarfile.TarInfo(f"{number:06d}.png")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return f"{folder}/train-{{0000..{_SHARDS - 1:04d}}}.tar"


def replace_first(shard: Path) -> None:
    """Somebody edits the first image of a shard; nothing else in it moves."""
    with tarfile.open(shard) as tar:
        member = tar.getmembers()[0]
    data = picture(7, ("bar",))
    assert len(data) == member.size
    with shard.open("r+b") as file:
        file.seek(member.offset_data)
        file.write(data)


def write_exemplars(folder: Path, seed: int) -> None:
    for place, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(_EXEMPLARS):
            (folder / name / f"{number}.png").write_bytes(picture(10_000 * seed + 100 * place + number, (name,)))
