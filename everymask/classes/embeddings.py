"""Mask embeddings: the input of U-SAM's classifier, kept as Parquet so that new classes need no backbone.

One row per image. `write_embeddings` puts a batch of images into one shard of a directory, atomically;
`open_embeddings` lists the shards, each of which reads itself back into `StoredEmbeddings`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from everymask.classes.config import MaskConfig
from everymask.classes.features import MaskFeatures
from everymask.errors import ConfigurationError, HeadMismatchError, InputError
from everymask.files.json_text import parse_json
from everymask.files.location import Location
from everymask.files.storage import one_line, resolve
from everymask.masks.rle import encoded_pixels
from everymask.records import Rle
from everymask.redaction import redact

FORMAT_VERSION = 3
SETTINGS_FILE = "masks.json"
_FEATURES = ("tokens", "pooled", "crop")
"""Columns of `MaskFeatures`, in its order."""
OCCUPANCY_SIDE = 16
"""Boxes along each side of the grid that records where in the image a mask is."""

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("content_sha256", pa.string(), nullable=False),
        pa.field("size_hw", pa.list_(pa.int32()), nullable=False),
        pa.field("backbone", pa.string(), nullable=False),
        pa.field("weights_sha256", pa.string(), nullable=False),
        pa.field("num_masks", pa.int32(), nullable=False),
        pa.field("tokens", pa.list_(pa.float16()), nullable=False),
        pa.field("pooled", pa.list_(pa.float16()), nullable=False),
        pa.field("crop", pa.list_(pa.float16()), nullable=False),
        pa.field("predicted_iou", pa.list_(pa.float32()), nullable=False),
        pa.field("stability_score", pa.list_(pa.float32()), nullable=False),
        pa.field("frame_share", pa.list_(pa.float32()), nullable=False),
        pa.field("occupancy", pa.list_(pa.uint8()), nullable=False),
        pa.field("point_coords", pa.list_(pa.float32()), nullable=False),
        pa.field("rle_counts", pa.list_(pa.string()), nullable=False),
    ]
)


@dataclass(frozen=True)
class MaskEmbeddings:
    """Every mask of one image as a class head reads it, with all that the final masks need.

    Attributes:
        size_hw: (height, width) of the image in pixels.
        features: what a head reads of the M masks.
        predicted_iou: (M,) float32.
        stability_score: (M,) float32, [0, 1].
        frame_share: (M,) float32, share of the picture's outermost pixels that each mask covers, [0, 1].
        occupancy: (M, OCCUPANCY_SIDE²) uint8, how much of each box of a grid over the image a mask covers, row by row;
            255 is all of it.
        point_coords: (M, 2) float32, (x, y) in original pixels.
        rles: M masks at original resolution.
        backbone: registry name of the backbone that made them.
        weights_sha256: digest of its weights.
    """

    size_hw: tuple[int, int]
    features: MaskFeatures
    predicted_iou: NDArray[np.float32]
    stability_score: NDArray[np.float32]
    frame_share: NDArray[np.float32]
    occupancy: NDArray[np.uint8]
    point_coords: NDArray[np.float32]
    rles: tuple[Rle, ...]
    backbone: str
    weights_sha256: str

    def __post_init__(self) -> None:
        arrays = ("predicted_iou", "stability_score", "frame_share", "occupancy", "point_coords", "rles")
        lengths = {name: len(getattr(self, name)) for name in arrays}
        lengths |= {name: len(getattr(self.features, name)) for name in ("token", "pooled", "crop")}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"all fields of mask embeddings must have one length; got {lengths}")

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, index: NDArray[np.int64]) -> MaskEmbeddings:
        """The masks at (K,) int `index`, in that order."""
        return MaskEmbeddings(
            self.size_hw,
            self.features[index],
            self.predicted_iou[index],
            self.stability_score[index],
            self.frame_share[index],
            self.occupancy[index],
            self.point_coords[index],
            tuple(self.rles[i] for i in index),
            self.backbone,
            self.weights_sha256,
        )


@dataclass(frozen=True)
class StoredEmbeddings:
    """One row of a store: an image and its mask embeddings. Names as in the label store."""

    image_id: str
    uri: str
    content_sha256: str
    embeddings: MaskEmbeddings


def write_embeddings(directory: str | Path, records: Sequence[StoredEmbeddings], config: MaskConfig) -> str:
    """Write one shard of a store, named by its images, so that writing it twice changes nothing.

    Args:
        directory: local, s3:// or any other address; made if missing.
        records: at least one, of one backbone.
        config: the settings of the masks.

    Returns:
        its path in the directory's file system.

    Raises:
        ConfigurationError: the directory holds embeddings of another backbone or with other mask settings.
        OutputError: it cannot be written.
    """
    name = hashlib.sha256("\n".join(sorted(record.image_id for record in records)).encode()).hexdigest()[:24]
    filesystem, root = resolve(str(directory))
    _claim(filesystem, root, _settings(records[0].embeddings, config))
    sink = pa.BufferOutputStream()
    pq.write_table(_to_table(records), sink, compression="zstd")
    path = f"{root}/{name}.parquet"
    Location(filesystem, path).write(sink.getvalue())
    return path


@dataclass(frozen=True)
class EmbeddingShard:
    """One Parquet file of a store, and which of its rows count.

    Attributes:
        directory: the store, as it was opened.
        name: the file's name in it.
        rows: indices of rows; an image that was written twice counts in the shard that was written last.
        image_ids: the ids of these rows.
    """

    directory: str
    name: str
    rows: tuple[int, ...]
    image_ids: tuple[str, ...]

    def read(self) -> list[StoredEmbeddings]:
        """Its records, in order.

        Raises:
            InputError: the file is damaged.
        """
        filesystem, root = resolve(self.directory)
        return read_embeddings(_read_parquet(filesystem, f"{root}/{self.name}").take(list(self.rows)))


def open_embeddings(directory: str | Path) -> tuple[list[EmbeddingShard], MaskConfig]:
    """The shards of a store in a fixed order, every image once, and the mask settings it was made with.

    An image that was edited and labelled again is in two shards, where it was labelled beside others before.

    Raises:
        ConfigurationError: the directory holds no mask embeddings, or those of another version.
        HeadMismatchError: it mixes backbones.
        InputError: a shard is damaged.
    """
    filesystem, root = resolve(str(directory))
    names = _shard_names(filesystem, root)
    settings = _read_settings(filesystem, root)
    if not names or settings is None:
        raise ConfigurationError(f"{directory} holds no mask embeddings; write some with --save-embeddings {directory}")
    if settings["version"] != str(FORMAT_VERSION):
        raise ConfigurationError(
            f"{directory} holds mask embeddings of version {settings['version']}, this release reads {FORMAT_VERSION}; "
            "make them again in another directory"
        )
    seen: set[str] = set()
    backbones: set[tuple[str, str]] = set()
    shards = []
    for name in _last_first(filesystem, root, names):
        keys = _read_parquet(filesystem, f"{root}/{name}", ["image_id", "backbone", "weights_sha256"]).to_pylist()
        rows = tuple(row for row, key in enumerate(keys) if key["image_id"] not in seen)
        seen |= {key["image_id"] for key in keys}
        backbones |= {(key["backbone"], key["weights_sha256"]) for key in keys}
        if rows:
            image_ids = tuple(keys[row]["image_id"] for row in rows)
            shards.append(EmbeddingShard(str(directory), name, rows, image_ids))
    if len(backbones) > 1:
        mixed = " and ".join(f"{name} ({sha256[:12]})" for name, sha256 in sorted(backbones))
        raise HeadMismatchError(f"{directory} mixes mask embeddings of {mixed}; use one directory per model")
    return sorted(shards, key=lambda shard: shard.name), MaskConfig(**settings["masks"])


def erase_embeddings(directory: str | Path, image_ids: frozenset[str]) -> int:
    """Remove some images' records from a store and return their number.

    Raises:
        ConfigurationError: the directory holds no mask embeddings.
        InputError: a shard is damaged.
        OutputError: the store is not writable.
    """
    filesystem, root = resolve(str(directory))
    if _read_settings(filesystem, root) is None:
        raise ConfigurationError(f"{directory} holds no mask embeddings; check the address")
    erased = 0
    for name in _shard_names(filesystem, root):
        table = _read_parquet(filesystem, f"{root}/{name}")
        keep = [image_id not in image_ids for image_id in table["image_id"].to_pylist()]
        if all(keep):
            continue
        erased += keep.count(False)
        shard = Location(filesystem, f"{root}/{name}")
        if any(keep):
            sink = pa.BufferOutputStream()
            pq.write_table(table.filter(pa.array(keep)), sink, compression="zstd")
            shard.write(sink.getvalue())
        else:
            shard.delete()
    return erased


def load_embeddings(directory: str | Path) -> list[StoredEmbeddings]:
    """Every record of a store, every image once. Raises as `open_embeddings` does."""
    shards, _ = open_embeddings(directory)
    return [record for shard in shards for record in shard.read()]


def read_embeddings(table: pa.Table) -> list[StoredEmbeddings]:
    """Rows of a store (`SCHEMA`) as records, in order.

    Raises:
        InputError: a column is missing or a row does not fit together.
    """
    missing = set(SCHEMA.names) - set(table.column_names)
    if missing:
        raise InputError(f"this is no table of mask embeddings: it has no column {', '.join(sorted(missing))}")
    return [_from_row(table.slice(row, 1)) for row in range(table.num_rows)]


def _shard_names(filesystem: pafs.FileSystem, root: str) -> list[str]:
    return sorted(
        info.base_name
        for info in filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True))
        if info.base_name.endswith(".parquet") and not info.base_name.startswith(".")
    )


def _last_first(filesystem: pafs.FileSystem, root: str, names: Sequence[str]) -> list[str]:
    """Names of shards, the one that was written last first."""
    written = [info.mtime_ns or 0 for info in filesystem.get_file_info([f"{root}/{name}" for name in names])]
    return [name for _, name in sorted(zip(written, names, strict=True), reverse=True)]


def _read_parquet(filesystem: pafs.FileSystem, path: str, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(path, filesystem=filesystem, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path} is not a readable Parquet file ({one_line(error)}); delete it and make it again"
        ) from error


def _settings(embeddings: MaskEmbeddings, config: MaskConfig) -> dict[str, Any]:
    """The settings that all shards of a store share; the number of prompts decoded at once is not one of them."""
    masks = {name: value for name, value in asdict(config).items() if name != "points_per_batch"}
    backbone = {"name": embeddings.backbone, "weights_sha256": embeddings.weights_sha256}
    return {"version": str(FORMAT_VERSION), "backbone": backbone, "masks": masks}


def _claim(filesystem: pafs.FileSystem, root: str, settings: dict[str, Any]) -> None:
    """Record a store's settings the first time; refuse different ones later."""
    known = _read_settings(filesystem, root)
    if known is None:
        Location(filesystem, f"{root}/{SETTINGS_FILE}").write((json.dumps(settings, indent=2) + "\n").encode())
    elif known != settings:
        raise ConfigurationError(
            f"{root} holds mask embeddings made with {json.dumps(known)}, not {json.dumps(settings)}; choose another "
            "directory"
        )


def _read_settings(filesystem: pafs.FileSystem, root: str) -> dict[str, Any] | None:
    path = f"{root}/{SETTINGS_FILE}"
    if filesystem.get_file_info(path).type != pafs.FileType.File:
        return None
    with filesystem.open_input_file(path) as file:
        data = file.read()
    try:
        settings: dict[str, Any] = parse_json(data)
        if not isinstance(settings["version"], str):
            raise TypeError(f"its version is {settings['version']!r}")
        if settings["version"] == str(FORMAT_VERSION):
            MaskConfig(**settings["masks"])
    except (ValueError, KeyError, TypeError, ConfigurationError) as error:
        raise ConfigurationError(
            f"{path} does not say how its mask embeddings were made ({one_line(error)}); restore it, or make them again"
        ) from error
    return settings


def _to_table(records: Sequence[StoredEmbeddings]) -> pa.Table:
    rows = [record.embeddings for record in records]
    columns = {
        "image_id": [record.image_id for record in records],
        "uri": [redact(record.uri) for record in records],
        "content_sha256": [record.content_sha256 for record in records],
        "size_hw": [list(row.size_hw) for row in rows],
        "backbone": [row.backbone for row in rows],
        "weights_sha256": [row.weights_sha256 for row in rows],
        "num_masks": [len(row) for row in rows],
        "tokens": [row.features.token.ravel() for row in rows],
        "pooled": [row.features.pooled.ravel() for row in rows],
        "crop": [row.features.crop.ravel() for row in rows],
        "predicted_iou": [row.predicted_iou for row in rows],
        "stability_score": [row.stability_score for row in rows],
        "frame_share": [row.frame_share for row in rows],
        "occupancy": [row.occupancy.ravel() for row in rows],
        "point_coords": [row.point_coords.ravel() for row in rows],
        "rle_counts": [[rle["counts"] for rle in row.rles] for row in rows],
    }
    return pa.table({field.name: pa.array(columns[field.name], type=field.type) for field in SCHEMA}, schema=SCHEMA)


def _from_row(row: pa.Table) -> StoredEmbeddings:
    def array(name: str) -> NDArray[np.generic]:
        values: NDArray[np.generic] = row[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return values

    def scalar(name: str) -> str:
        return str(row[name][0].as_py())

    count = row["num_masks"][0].as_py()
    counts = row["rle_counts"][0].as_py()
    try:
        height, width = row["size_hw"][0].as_py()
        if min(height, width) < 1 or None in counts:
            raise ValueError(f"its image has {width} x {height} pixels, its masks' encodings are {len(counts)}")
        if any(pixels != height * width for pixels in encoded_pixels(counts)):
            raise ValueError("a mask's counts are no run-length encoding of its image")
        embeddings = MaskEmbeddings(
            size_hw=(height, width),
            features=MaskFeatures(*(_matrix(array(name).astype(np.float16), count) for name in _FEATURES)),
            predicted_iou=array("predicted_iou").astype(np.float32),
            stability_score=array("stability_score").astype(np.float32),
            frame_share=array("frame_share").astype(np.float32),
            occupancy=array("occupancy").astype(np.uint8).reshape(count, OCCUPANCY_SIDE**2),
            point_coords=array("point_coords").astype(np.float32).reshape(count, 2),
            rles=tuple(Rle(size=[height, width], counts=text) for text in counts),
            backbone=scalar("backbone"),
            weights_sha256=scalar("weights_sha256"),
        )
    except ValueError as error:
        raise InputError(f"the mask embeddings of {scalar('image_id')} do not fit together: {error}") from error
    return StoredEmbeddings(scalar("image_id"), scalar("uri"), scalar("content_sha256"), embeddings)


def _matrix(values: NDArray[np.float16], rows: int) -> NDArray[np.float16]:
    """(rows · D,) → (rows, D); an image without masks gives (0, 0)."""
    return values.reshape(rows, -1) if rows else values.reshape(0, 0)
