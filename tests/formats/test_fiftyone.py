"""FiftyOne's folder holds masks, scores, doubt and tags; `readers/test_readers.py` has FiftyOne open it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from everymask.files.addresses import AddressPolicy
from everymask.formats.fiftyone import unpacked_array
from everymask.formats.splits import SplitOptions
from everymask.labels.doubt import image_doubt
from everymask.labels.store import LabelStore
from everymask.masks.rle import decode_mask
from tests.formats.exporting import run_export
from tests.formats.shapes import shape_store


def mask_of(item: dict[str, Any], size_hw: tuple[int, int]) -> np.ndarray[Any, Any]:
    """A detection as a (H, W) mask."""
    height, width = size_hw
    x, y, across, down = (round(v) for v in np.array(item["bounding_box"]) * [width, height, width, height])
    mask = np.zeros(size_hw, dtype=np.bool_)
    mask[y : y + down, x : x + across] = unpacked_array(item["mask"]["$binary"]["base64"])
    return mask


def test_documents_hold_what_the_store_holds(tmp_path: Path) -> None:
    store = shape_store(tmp_path)
    policy = AddressPolicy(any_local_file=True)
    split = SplitOptions((0.5, 0.5), by="image_id")
    report = run_export(store, "fiftyone", tmp_path / "fo", images="copy", split=split, policy=policy)
    samples = json.loads((tmp_path / "fo" / "samples.json").read_text())["samples"]
    images = {image.image_id: image for image in store.images()}
    assert [sample["image_id"] for sample in samples] == sorted(images)
    for sample in samples:
        labels = images[sample["image_id"]].labels
        assert labels is not None
        assert (tmp_path / "fo" / sample["filepath"]).is_file()
        assert sample["doubt"] == image_doubt(labels)
        found = sample["labels"]["detections"]
        assert [item["_id"]["$oid"] for item in found] == [mask.mask_id for mask in labels.masks]
        assert [item["confidence"] for item in found] == [mask.score for mask in labels.masks]
        assert [item["label"] for item in found] == [mask.class_name for mask in labels.masks]
        for item, mask in zip(found, labels.masks, strict=True):
            np.testing.assert_array_equal(mask_of(item, labels.size_hw), decode_mask(mask.rle))
    assert {tag for sample in samples for tag in sample["tags"]} == {"train", "val"}
    assert json.loads((tmp_path / "fo" / "metadata.json").read_text())["default_classes"] == ["cat", "dog"]
    assert report.loss.changed == 0


def test_the_description_has_what_fiftyone_looks_for(tmp_path: Path) -> None:
    run_export(shape_store(tmp_path), "fiftyone", tmp_path / "fo")
    content = json.loads((tmp_path / "fo" / "metadata.json").read_text())
    assert content.keys() == {
        *("version", "media_type", "info", "classes", "default_classes", "sample_fields", "frame_fields", "tags"),
        *("app_config", "group_media_types", "mask_targets", "default_mask_targets", "skeletons"),
    }
    waiting, kinds = list(content["sample_fields"]), {}
    while waiting:
        field = waiting.pop()
        waiting += field["fields"]
        kinds[field["name"]] = field["ftype"].rpartition(".")[2]
        assert field.keys() == {
            *("name", "ftype", "embedded_doc_type", "subfield", "fields", "db_field", "description", "info"),
            "read_only",
        }
        assert field["db_field"] == ("_id" if field["name"] == "id" else field["name"])
        assert field["read_only"] is False
    samples = json.loads((tmp_path / "fo" / "samples.json").read_text())["samples"]
    sample = next(sample for sample in samples if sample["labels"]["detections"])
    mask, unnamed = sample["labels"]["detections"][0], {"_id", "_cls", "attributes"}
    assert (sample.keys() | mask.keys() | sample["metadata"].keys()) - unnamed <= kinds.keys()
    assert {kinds[name] for name in ("confidence", "predicted_iou", "stability_score", "uncertainty")} == {"FloatField"}


def test_images_that_stay_where_they_are_are_named_by_their_address(entities: LabelStore, tmp_path: Path) -> None:
    run_export(entities, "fiftyone", tmp_path / "fo")
    samples = json.loads((tmp_path / "fo" / "samples.json").read_text())["samples"]
    assert [sample["filepath"] for sample in samples] == sorted(
        image.uri for image in entities.images() if image.labels
    )
    assert all(sample["tags"] == [] for sample in samples)
