"""A label store of any size, made in seconds, to measure readers of stores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everymask.labels.schema import MASK, SCHEMA
from everymask.labels.store import LabelStore
from everymask.masks.rle import boxes_from_rles, encode_mask, rle_areas

CLASSES = ("person", "cat", "dog", "car", "tree", "chair", "cup", "bird", "boat", "sign", "bag", "horse")
_SIZE_HW = (480, 640)
_DISTINCT = 256
_ROWS_PER_PART = 4096


def write_synthetic_store(uri: str, images: int, masks: int, seed: int = 0) -> LabelStore:
    """Images of 640 x 480 pixels, each with `masks` masks on average, of twelve classes; one in a hundred an error.

    Args:
        uri: where.
        images: how many.
        masks: their mean number; they are distributed evenly from 0 to twice that.
        seed: of all random draws.
    """
    random = np.random.default_rng(seed)
    store = LabelStore(uri)
    pool = _pool(random)
    for start in range(0, images, _ROWS_PER_PART):
        store.write_part(_rows(random, pool, start, min(start + _ROWS_PER_PART, images), masks))
    return store


def _pool(random: np.random.Generator) -> pa.Table:
    """Ellipses, as rle, bbox and area."""
    height, width = _SIZE_HW
    y, x = np.mgrid[:height, :width]
    rles = []
    for _ in range(_DISTINCT):
        centre_y, centre_x = random.uniform(0, height), random.uniform(0, width)
        radius_y, radius_x = random.uniform(8, 120, 2)
        rles.append(encode_mask(((y - centre_y) / radius_y) ** 2 + ((x - centre_x) / radius_x) ** 2 < 1))
    boxes = boxes_from_rles(rles)
    boxes[:, 2:] -= boxes[:, :2]
    columns = {"rle": rles, "bbox": boxes.tolist(), "area": rle_areas(rles).tolist()}
    return pa.table({name: pa.array(values, MASK.field(name).type) for name, values in columns.items()})


def _rows(random: np.random.Generator, pool: pa.Table, start: int, stop: int, masks: int) -> pa.Table:
    count = stop - start
    failed = random.random(count) < 0.01
    sizes = np.where(failed, 0, random.integers(0, 2 * masks + 1, count))
    total = int(sizes.sum())
    chosen = pool.take(random.integers(0, _DISTINCT, total)).combine_chunks()
    scores = random.beta(4, 2, total)
    classes = random.integers(0, len(CLASSES), total)
    fields: dict[str, Any] = {
        "mask_id": _hex(random, total, 24),
        **{
            name: chosen[name].chunk(0) if total else pa.array([], MASK.field(name).type)
            for name in chosen.schema.names
        },
        "predicted_iou": scores,
        "stability_score": scores,
        "point_coords": pa.FixedSizeListArray.from_arrays(random.uniform(0, 400, 2 * total), 2),
        "class_id": classes,
        "class_name": pa.array(CLASSES).take(pa.array(classes)),
        "score": scores,
        "uncertainty": random.beta(1, 4, total),
        "agreement": pa.nulls(total),
    }
    arrays = [pa.array(fields[field.name]).cast(field.type) for field in MASK]
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32), mask=np.append(failed, False))
    names = pa.array([f"{number // 1000:04d}/{number:07d}.jpg" for number in range(start, stop)])
    sizes_of = {"height": _SIZE_HW[0], "width": _SIZE_HW[1]}
    columns: dict[str, Any] = {
        "image_id": names,
        "uri": names,
        "content_sha256": _hex(random, count, 64),
        "status": np.where(failed, "error", "ok"),
        "error": pa.array(np.where(failed, "the file is empty (0 bytes)", ""), mask=~failed),
        "coverage": pa.array(random.random(count), mask=failed),
        "missed": pa.array(random.exponential(1.0, count), mask=failed),
        "seconds": np.ones(count),
        "masks": pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, fields=list(MASK))),
        **{name: pa.array(np.full(count, side), mask=failed) for name, side in sizes_of.items()},
    }
    return pa.table(
        {
            field.name: pa.array(columns[field.name]).cast(field.type)
            if field.name in columns
            else pa.nulls(count, field.type)
            for field in SCHEMA
        },
        schema=SCHEMA,
    )


def _hex(random: np.random.Generator, count: int, digits: int) -> NDArray[np.str_]:
    text = random.bytes(count * digits // 2).hex()
    return np.frombuffer(text.encode("ascii"), dtype=f"S{digits}").astype(f"<U{digits}")
