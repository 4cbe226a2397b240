"""The label store's table: one row per image, failures included, with SAM's key names."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

FORMAT_VERSION = 4
"""Written into every part and into run.json; readers refuse a newer one.

1 had no `mask_id`, no `agreement`, and no configuration and checksums in its parts. Read, its masks get the ids they
would have had. 2 had no `missed`. 3 had no `member`, `file_size`, `file_version` and `dhash`, and parts whose names
could collide. docs/decisions/store-format-4.md has the whole of 4.
"""

ADDED_IN = {"missed": 3, "member": 4, "file_size": 4, "file_version": 4, "dhash": 4, "presence": 4}
"""Columns that were added after format 1, with their format."""

OPTIONAL = {"presence": "concepts"}
"""Columns that one method alone fills, with the method. Other parts have no such column; read, it is null there."""

RLE = pa.struct([pa.field("size", pa.list_(pa.int32())), pa.field("counts", pa.string())])
"""COCO compressed run-length encoding: size is [height, width] in pixels."""

MASK = pa.struct(
    [
        pa.field("mask_id", pa.string()),  # 24 hexadecimal digits
        pa.field("rle", RLE),
        pa.field("bbox", pa.list_(pa.int32())),  # [x, y, width, height] in pixels
        pa.field("area", pa.int64()),  # pixels
        pa.field("predicted_iou", pa.float64()),  # null for method concepts
        pa.field("stability_score", pa.float64()),
        pa.field("point_coords", pa.list_(pa.float64())),  # [x, y] in pixels
        pa.field("class_id", pa.int32()),
        pa.field("class_name", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("uncertainty", pa.float64()),
        pa.field("agreement", pa.float64()),  # null for other methods than entities
    ]
)

MEMBER = pa.struct(
    [
        pa.field("kind", pa.string()),  # range | scan | row | frame | page
        pa.field("name", pa.string()),  # of the member, or of the column
        pa.field("offset", pa.int64()),  # bytes
        pa.field("size", pa.int64()),  # bytes
        pa.field("row", pa.int64()),
        pa.field("milliseconds", pa.int64()),
        pa.field("page", pa.int32()),
    ]
)
"""Where an image lies inside a file (`everymask.records.Member`)."""

MANIFEST = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("member", MEMBER),
        pa.field("file_size", pa.int64()),
        pa.field("file_version", pa.string()),
        pa.field("error", pa.string()),  # why there is no image after all
    ]
)
"""A list of images to label."""

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("member", MEMBER),  # null where the image is the file
        pa.field("file_size", pa.int64()),  # bytes, as the listing said
        pa.field("file_version", pa.string()),  # mtime:… or etag:…, as the listing said
        pa.field("width", pa.int32()),  # null where the image could not be decoded
        pa.field("height", pa.int32()),
        pa.field("content_sha256", pa.string()),  # null where the file could not be read
        pa.field("dhash", pa.string()),  # difference hash of the picture, 16 hexadecimal digits
        pa.field("status", pa.string(), nullable=False),  # ok | error
        pa.field("error", pa.string()),  # one sentence, null where all is well
        pa.field("coverage", pa.float64()),  # share of pixels in some mask
        pa.field("missed", pa.float64()),  # masks of the classes that were probably left out; null without classes
        # How sure the model is that the image shows each class at all, in the order of `class_names`; method concepts.
        pa.field("presence", pa.list_(pa.float64())),
        pa.field("seconds", pa.float64(), nullable=False),  # decoding and labelling
        pa.field("masks", pa.list_(MASK)),  # descending score; null on error, empty where nothing was found
    ]
)
"""Rows in memory. Parts hold `stored_schema`."""


def stored_schema(optional: Collection[str] = ()) -> pa.Schema:
    """`SCHEMA` with those alone of the columns in `OPTIONAL` that are named."""
    return pa.schema([field for field in SCHEMA if field.name not in OPTIONAL or field.name in optional])
