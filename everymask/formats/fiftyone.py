"""FiftyOne's own folder format (https://docs.voxel51.com, `FiftyOneDataset`), with masks, scores, doubt and tags.

metadata.json describes the fields, samples.json holds a document for each image, data/ holds the images. A mask is an
array over its box: numpy's file, compressed by zlib, in base64. Documents use the masks' ids.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shlex
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.formats.class_names import ClassNames
from everymask.formats.format import Destination, Ended, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.labels.doubt import image_doubt
from everymask.masks.labelled import rle_of_copy
from everymask.masks.runs import crops_of
from everymask.records import LabelledMask, Rle

_VERSION = "1.0.0"
"""FiftyOne's document version; later versions of FiftyOne migrate it."""
_LABELS = "labels"
_ID_DIGITS = 24


def _field(
    name: str, kind: str, subfield: str | None = None, document: str | None = None, **more: Any
) -> dict[str, Any]:
    prefix = "fiftyone.core."
    return {
        "name": name,
        "ftype": f"{prefix}fields.{kind}",
        "embedded_doc_type": document and prefix + document,
        "subfield": subfield and f"{prefix}fields.{subfield}",
        "fields": [],
        "db_field": "_id" if name == "id" else name,
        "description": None,
        "info": None,
        "read_only": False,
        **more,
    }


_MASK_FIELDS = [
    _field("id", "ObjectIdField"),
    _field("tags", "ListField", "StringField"),
    _field("label", "StringField"),
    _field("bounding_box", "ListField", "FloatField"),
    _field("mask", "ArrayField"),
    _field("confidence", "FloatField"),
    _field("predicted_iou", "FloatField"),
    _field("stability_score", "FloatField"),
    _field("uncertainty", "FloatField"),
]
_SAMPLE_FIELDS = [
    _field("id", "ObjectIdField"),
    _field("filepath", "StringField"),
    _field("tags", "ListField", "StringField"),
    _field(
        "metadata",
        "EmbeddedDocumentField",
        document="metadata.ImageMetadata",
        fields=[_field("width", "IntField"), _field("height", "IntField")],
    ),
    _field("_media_type", "StringField"),
    _field("_rand", "FloatField"),
    _field("image_id", "StringField"),
    _field("doubt", "FloatField", description="of the labels, as the review queue has it: 0 none, 1 most"),
    _field(
        _LABELS,
        "EmbeddedDocumentField",
        document="labels.Detections",
        fields=[
            _field("detections", "ListField", "EmbeddedDocumentField", document="labels.Detection", fields=_MASK_FIELDS)
        ],
    ),
]


def packed_array(array: NDArray[np.bool_]) -> str:
    """An array as FiftyOne stores it."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return base64.b64encode(zlib.compress(buffer.getvalue(), 1)).decode("ascii")


def unpacked_array(text: str) -> NDArray[np.bool_]:
    """The inverse of `packed_array`."""
    found: NDArray[np.bool_] = np.load(io.BytesIO(zlib.decompress(base64.b64decode(text))), allow_pickle=False)
    return found


def detection(mask: LabelledMask, packed: str) -> dict[str, Any]:
    """A non-empty mask as a document; `packed` holds the pixels inside its box."""
    (x0, y0, x1, y1), (height, width) = mask.box_xyxy, mask.rle["size"]
    return {
        "_id": {"$oid": mask.mask_id},
        "_cls": "Detection",
        "attributes": {},
        "tags": [],
        "label": ClassNames.name(mask),
        "bounding_box": [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height],
        "mask": {"$binary": {"base64": packed, "subType": "00"}},
        "confidence": mask.score,
        "predicted_iou": mask.predicted_iou,
        "stability_score": mask.stability_score,
        "uncertainty": mask.uncertainty,
    }


class FiftyOneWriter:
    """Writes a document for each image; they wait on disk until all are there."""

    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._with_images = destination.with_images
        self._samples = destination.spool("samples")

    def add(self, exported: ExportedImage) -> list[Rle]:
        labels, image = exported.labels, exported.image
        height, width = labels.size_hw
        detections, written = [], []
        crops = crops_of([mask.rle for mask in labels.masks], [mask.box_xyxy for mask in labels.masks])
        for mask, crop in zip(labels.masks, crops, strict=True):
            if not mask.area:
                written.append(mask.rle)
                continue
            packed = packed_array(crop)
            detections.append(detection(mask, packed))
            x0, y0, _, _ = mask.box_xyxy
            written.append(rle_of_copy(unpacked_array(packed), (x0, y0), mask, crop))
        digest = hashlib.sha256(image.image_id.encode("utf-8", "surrogatepass")).hexdigest()
        sample = {
            "_id": {"$oid": digest[:_ID_DIGITS]},
            "filepath": f"{FIFTYONE.image_folder}/{exported.name}" if self._with_images else image.uri,
            "tags": [exported.split] if exported.split else [],
            "metadata": {"_cls": "ImageMetadata", "width": width, "height": height},
            "_media_type": "image",
            "_rand": int(digest[:13], 16) / 16**13,
            "image_id": image.image_id,
            "doubt": image_doubt(labels),
            _LABELS: {"_cls": "Detections", "detections": detections},
        }
        self._samples.add(exported.number, json.dumps(sample).encode())
        return written

    def end(self) -> Ended:
        self._samples.end()
        return Ended({"samples": self._samples.path.name})


def _write_documents(destination: Destination, options: ExportOptions, ended: Sequence[Ended]) -> None:
    with (destination.folder / "samples.json").open("wb") as stream:
        stream.write(b'{"samples": [')
        for number, piece in enumerate(destination.pieces(ended, "samples")):
            stream.write((b",\n" if number else b"\n") + piece)
        stream.write(b"\n]}\n")
    names = destination.names.dense()
    content = {
        "version": _VERSION,
        "media_type": "image",
        "info": {"everymask": options.model_version},
        "classes": {_LABELS: names},
        "default_classes": names,
        "sample_fields": _SAMPLE_FIELDS,
        "frame_fields": [],
        "tags": [],
        "app_config": {},
        "group_media_types": {},
        "mask_targets": {},
        "default_mask_targets": {},
        "skeletons": {},
    }
    (destination.folder / "metadata.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def _next_line(output: str, options: ExportOptions) -> str:
    opened = f"fo.Dataset.from_dir({output!r}, dataset_type=fo.types.FiftyOneDataset)"
    return f"python -c {shlex.quote(f'import fiftyone as fo; fo.launch_app({opened}).wait()')}"


FIFTYONE = Format(
    name="fiftyone",
    summary="FiftyOne, a folder with masks, scores, doubt and tags for the splits: looked through in its app",
    suffix="",
    naming=Naming.IMAGE_ID,
    keeps=frozenset(Keeps),
    exact=True,
    writer=FiftyOneWriter,
    close=_write_documents,
    image_folder="data",
    needs_images=True,
    has_splits=True,
    next_line=_next_line,
)
