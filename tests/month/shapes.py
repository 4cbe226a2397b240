"""The collection of the month: drawn things of two classes on noise, and pictures of single things."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.labels.rows import ImageRow

CLASSES = ("disc", "bar")
SIZE_HW = (36, 48)
"""Small, so that labelling thousands takes minutes."""
_COLOURS = {"disc": (205, 40, 40), "bar": (40, 60, 225)}
_PARTS = 20
HALF = _PARTS // 2
_EDITED = 13
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
    centre_y, centre_x, radius = draw.integers(11, 25), draw.integers(10, 14), draw.integers(6, 9)
    if name == "disc":
        return np.hypot(y - centre_y, x - centre_x) < radius
    return (abs(y - centre_y) < radius // 2) & (abs(x - centre_x - 24) < radius)


@dataclass(frozen=True)
class Collection:
    """Pictures in twenty parts: tar shards in WebDataset's form, or folders of files.

    Attributes:
        folder: where the parts lie.
        images: how many pictures.
        seed: of what they show.
        loose: folders of files.
    """

    folder: Path
    images: int
    seed: int
    loose: bool = False

    @property
    def input(self) -> str:
        """What `--input` takes."""
        return str(self.folder) if self.loose else f"{self.folder}/train-{{0000..{_PARTS - 1:04d}}}.tar"

    def write(self, first: int = 0, last: int = _PARTS) -> None:
        """Write the parts from `first` on, and before `last`."""
        for part, numbers in list(enumerate(np.array_split(np.arange(self.images), _PARTS)))[first:last]:
            pictures = {
                f"{number:06d}.png": picture(1_000_000 * (self.seed + 1) + number, CLASSES[: 1 + number % 2])
                for number in numbers.tolist()
            }
            place = self.folder / f"train-{part:04d}"
            place.parent.mkdir(exist_ok=True)
            if self.loose:
                place.mkdir()
                for name, data in pictures.items():
                    (place / name).write_bytes(data)
            else:
                write_tar(place.with_suffix(".tar"), pictures)

    def edit(self) -> None:
        """Somebody edits the first picture of a part; nothing else changes."""
        place, data = self.folder / f"train-{_EDITED:04d}", picture(7, ("bar",))
        file, offset, size = _first_of_folder(place) if self.loose else _first_of_tar(place.with_suffix(".tar"))
        assert len(data) == size
        with file.open("r+b") as stream:
            stream.seek(offset)
            stream.write(data)


def write_tar(path: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _first_of_folder(folder: Path) -> tuple[Path, int, int]:
    file = min(folder.iterdir())
    return file, 0, file.stat().st_size


def _first_of_tar(path: Path) -> tuple[Path, int, int]:
    with tarfile.open(path) as tar:
        member = tar.getmembers()[0]
    return path, member.offset_data, member.size


def picture_of(row: ImageRow) -> bytes:
    """The bytes that a row of the collection was made from."""
    with Path(row.uri).open("rb") as file:
        if row.member is None:
            return file.read()
        file.seek(row.member.offset or 0)
        return file.read(row.member.size)


def write_exemplars(folder: Path, seed: int) -> None:
    for place, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(_EXEMPLARS):
            (folder / name / f"{number}.png").write_bytes(picture(10_000 * seed + 100 * place + number, (name,)))
