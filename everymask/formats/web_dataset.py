"""WebDataset (https://github.com/webdataset/webdataset): tar shards with an image, index picture and JSON a sample.

SPLIT-000000.tar holds KEY.jpg, KEY.index.png and KEY.json; a key is the image's id with folders, without ending. Shards
have a bounded size and are written as images arrive, so memory does not grow with the store.
"""

from __future__ import annotations

import json
import shlex
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import PurePosixPath

from everymask.formats.format import (
    Destination,
    Ended,
    ExportedImage,
    ExportOptions,
    Format,
    Keeps,
    Naming,
    number_files,
)
from everymask.formats.index_picture import described, indexed
from everymask.formats.naming import relative_path
from everymask.records import Rle

_SHARD_BYTES = 2**28


class _Shards:
    """One split's shards, one of which is open."""

    def __init__(self, destination: Destination, split: str) -> None:
        self._folder = destination.folder
        self._prefix = f"{split}-{destination.share:06d}"
        self._tar: tarfile.TarFile | None = None
        self.files: list[str] = []
        self.images = 0

    def add(self, files: dict[str, bytes]) -> None:
        if self._tar is not None and self._tar.offset >= _SHARD_BYTES:
            self.close()
        if self._tar is None:
            self.files.append(f"{self._prefix}-{len(self.files):05d}.tar")
            path = self._folder / self.files[-1]
            self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 (closed with its last image)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            self._tar.addfile(entry, BytesIO(data))
        # What was added is of no use any more, and would be kept.
        self._tar.members.clear()  # type: ignore[attr-defined]
        self.images += 1

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
        self._tar = None


class WebDatasetWriter:
    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination
        self._splits: dict[str, _Shards] = {}

    def add(self, exported: ExportedImage) -> list[Rle]:
        found = indexed(exported.labels, self._destination.names, exported.image.image_id)
        split = exported.split or "train"
        if split not in self._splits:
            self._splits[split] = _Shards(self._destination, split)
        key = sample_key(exported.name)
        files = {}
        if exported.picture is not None:
            files[f"{key}{PurePosixPath(exported.name).suffix.lower() or '.jpg'}"] = exported.picture
        files[f"{key}.index.png"] = found.png
        files[f"{key}.json"] = json.dumps(described(exported, found.objects)).encode()
        self._splits[split].add(files)
        return found.written

    def end(self) -> Ended:
        for shards in self._splits.values():
            shards.close()
        files = {split: shards.files for split, shards in self._splits.items()}
        return Ended(files=files, images={split: shards.images for split, shards in self._splits.items()})


def _write_list(destination: Destination, options: ExportOptions, ended: Sequence[Ended]) -> None:
    """Number the shards within each split, and list them."""
    counts = number_files(destination.folder, ended, "{split}-{number:06d}.tar")
    content = {
        "model_version": options.model_version,
        "categories": destination.names.dense(),
        "splits": {
            split: {"shards": count, "images": sum(one.images.get(split, 0) for one in ended)}
            for split, count in counts.items()
        },
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (destination.folder / "dataset.json").write_text(text, encoding="utf-8")


def sample_key(name: str) -> str:
    """An image's key; WebDataset takes what follows the first full stop of a file name as its kind."""
    path = PurePosixPath(relative_path(name))
    return str(path.with_name(path.stem.replace(".", "%2E") or "_"))


WEB_DATASET = Format(
    name="webdataset",
    summary="WebDataset, tar shards with image, index picture and JSON a sample: loaders that stream",
    suffix="",
    naming=Naming.STEM,
    keeps=frozenset(Keeps),
    exact=True,
    writer=WebDatasetWriter,
    close=_write_list,
    image_folder="",
    needs_images=True,
    embeds_images=True,
    has_splits=True,
    refused_name=r"[\0\n\r]",
    next_line=lambda output, options: (
        f"python -c \"import webdataset; print(next(iter(webdataset.WebDataset('{shlex.quote(output)}/train-000000.tar'"
        ", shardshuffle=False).decode()))['json'])\""
    ),
)
