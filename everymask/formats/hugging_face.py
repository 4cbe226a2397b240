"""A Hugging Face dataset that `load_dataset(FOLDER)` opens without code.

data/SPLIT-00000.parquet has a row for each image: the image, the index picture of its masks, and its objects. README.md
is the card: features, splits, licence. Rows are written in groups and files have a bounded size, so memory does not
grow with the store.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from everymask.formats.format import (
    Destination,
    Ended,
    ExportedImage,
    ExportOptions,
    Format,
    Keeps,
    Naming,
    number_files,
    training_script,
)
from everymask.formats.index_picture import described, indexed
from everymask.records import Rle
from everymask.wording import counted

_GROUP_ROWS, _GROUP_BYTES = 100, 2**25
"""Readers load one group of rows at a time."""
_FILE_BYTES = 2**29
_FOLDER = "data"

_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
SCHEMA = pa.schema(
    [
        pa.field("image", _IMAGE),
        pa.field("image_id", pa.string()),
        pa.field("width", pa.int64()),
        pa.field("height", pa.int64()),
        pa.field("masks", _IMAGE),
        pa.field(
            "objects",
            pa.list_(
                pa.struct(
                    [
                        pa.field("id", pa.string()),
                        pa.field("category", pa.int64()),
                        pa.field("label", pa.string()),
                        pa.field("bbox", pa.list_(pa.float64())),
                        pa.field("area", pa.int64()),
                        pa.field("score", pa.float64()),
                        pa.field("counts", pa.string()),
                    ]
                )
            ),
        ),
    ]
)


class _SplitFiles:
    """One split's files, one of which is open."""

    def __init__(self, destination: Destination, split: str) -> None:
        self._folder = destination.folder / _FOLDER
        self._folder.mkdir(exist_ok=True)
        self._prefix = f"{split}-{destination.share:06d}"
        self._rows: list[dict[str, Any]] = []
        self._pending_bytes = 0
        self._written_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self.files: list[str] = []
        self.images = 0
        self.picture_bytes = 0

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        size = sum(len(row[name]["bytes"] or b"") for name in ("image", "masks"))
        self._pending_bytes += size
        self.picture_bytes += size
        self.images += 1
        if len(self._rows) >= _GROUP_ROWS or self._pending_bytes >= _GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        if self._writer is None:
            # The pictures are compressed already.
            self.files.append(f"{self._prefix}-{len(self.files):05d}.parquet")
            path = self._folder / self.files[-1]
            self._writer = pq.ParquetWriter(path, SCHEMA, compression={"objects.list.element.counts": "zstd"})
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
        self._written_bytes += self._pending_bytes
        self._rows, self._pending_bytes = [], 0
        if self._written_bytes >= _FILE_BYTES:
            self.close()

    def close(self) -> None:
        if self._rows:
            self._write_group()
        if self._writer is not None:
            self._writer.close()
        self._writer, self._written_bytes = None, 0


class HuggingFaceWriter:
    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination
        self._splits: dict[str, _SplitFiles] = {}

    def add(self, exported: ExportedImage) -> list[Rle]:
        found = indexed(exported.labels, self._destination.names, exported.image.image_id)
        split = exported.split or "train"
        if split not in self._splits:
            self._splits[split] = _SplitFiles(self._destination, split)
        self._splits[split].add(
            {
                "image": {"bytes": exported.picture, "path": exported.name},
                "masks": {"bytes": found.png, "path": None},
                **described(exported, found.objects),
            }
        )
        return found.written

    def end(self) -> Ended:
        for files in self._splits.values():
            files.close()
        return Ended(
            files={split: files.files for split, files in self._splits.items()},
            images={split: files.images for split, files in self._splits.items()},
            picture_bytes={split: files.picture_bytes for split, files in self._splits.items()},
        )


def _write_card(destination: Destination, options: ExportOptions, ended: Sequence[Ended]) -> None:
    """Number the files within each split and write the card."""
    folder = destination.folder / _FOLDER
    counts = number_files(folder, ended, "{split}-{number:05d}.parquet")
    order = [*destination.splits, *sorted(set(counts).difference(destination.splits))]
    content = {
        "task_categories": ["image-segmentation", "object-detection"],
        "tags": ["everymask"],
        "dataset_info": {
            "features": _features(destination.names.dense()),
            "splits": [
                {
                    "name": split,
                    "num_bytes": sum(one.picture_bytes.get(split, 0) for one in ended),
                    "num_examples": sum(one.images.get(split, 0) for one in ended),
                }
                for split in order
            ],
        },
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{_FOLDER}/{split}-*.parquet"} for split in order],
            }
        ],
    }
    front = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    text = _CARD.format(images=counted(destination.images, "image"), model_version=options.model_version)
    (destination.folder / "README.md").write_text(f"---\n{front}---\n\n{text}", encoding="utf-8")


def _features(names: list[str]) -> list[dict[str, Any]]:
    """The columns as in the card's YAML."""
    labels = {"class_label": {"names": {str(index): name for index, name in enumerate(names)}}}
    return [
        {"name": "image", "dtype": "image"},
        {"name": "image_id", "dtype": "string"},
        {"name": "width", "dtype": "int64"},
        {"name": "height", "dtype": "int64"},
        {"name": "masks", "dtype": "image"},
        {
            "name": "objects",
            "list": [
                {"name": "id", "dtype": "string"},
                {"name": "category", "dtype": labels},
                {"name": "label", "dtype": "string"},
                {"name": "bbox", "list": "float64"},
                {"name": "area", "dtype": "int64"},
                {"name": "score", "dtype": "float64"},
                {"name": "counts", "dtype": "string"},
            ],
        },
    ]


_CARD = """# Masks by everymask

{images}, labelled by a model (run {model_version}), not by people, unless they corrected it.

`masks` is an index picture: 0 is background, k the k-th entry of `objects`. Of masks that lie partly below another,
`counts` holds COCO's compressed run lengths of the whole mask. `bbox` is x, y, width, height in pixels.
LICENSES.txt says under which terms the labels were made; the images keep their own.
"""

HUGGING_FACE = Format(
    name="huggingface",
    summary="Hugging Face datasets, Parquet files with images, index pictures and a card: transformers",
    suffix="",
    naming=Naming.IMAGE_ID,
    keeps=frozenset(Keeps),
    exact=True,
    writer=HuggingFaceWriter,
    close=_write_card,
    image_folder="",
    needs_images=True,
    embeds_images=True,
    has_splits=True,
    next_line=lambda output, options: f"python {training_script('segmenter.py')} {shlex.quote(output)}",
)
