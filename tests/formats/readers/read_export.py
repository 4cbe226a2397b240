"""Read an export with the tool it is for, and print what the tool found as JSON. Runs without everymask.

    PYTHON read_export.py TOOL PATH

Prints {image name: [{"label": …, "id": …, "size": [height, width], "runs": row-major run lengths, background first}]}.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Found = dict[str, list[dict[str, Any]]]


def found_mask(mask: NDArray[Any], label: str, mask_id: str | None = None) -> dict[str, Any]:
    """One mask as it is printed."""
    flat = np.concatenate([[False], np.asarray(mask, dtype=bool).ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"label": label, "id": mask_id, "size": list(mask.shape), "runs": [int(run) for run in runs]}


def datumaro(kind: str) -> Any:
    """A reader by datumaro's importer `kind`."""

    def read(path: Path) -> Found:
        from datumaro.components.annotation import AnnotationType
        from datumaro.components.dataset import Dataset

        dataset = Dataset.import_from(str(path), kind)
        categories = dataset.categories()
        names = (categories.get(AnnotationType.label) or []).items
        found: Found = {}
        for item in dataset:
            masks: Any = [one for one in item.annotations if one.type == AnnotationType.mask]
            found[item.id] = [
                found_mask(one.image, names[one.label].name, one.attributes.get("everymask_id")) for one in masks
            ]
            polygons: Any = [one for one in item.annotations if one.type == AnnotationType.polygon]
            found[item.id] += [
                found_mask(
                    one.as_mask().image if hasattr(one, "as_mask") else _filled(one, item), names[one.label].name
                )
                for one in polygons
            ]
        return found

    def _filled(polygon: Any, item: Any) -> NDArray[Any]:
        from pycocotools import mask as coco_mask

        height, width = item.media.size
        decoded: NDArray[Any] = coco_mask.decode(coco_mask.frPyObjects([polygon.points], height, width))
        return decoded[:, :, 0]

    return read


def label_studio(path: Path) -> Found:
    """Predictions, validated against the configuration beside them, then decoded by the SDK's own code."""
    from label_studio_sdk.converter import brush
    from label_studio_sdk.label_interface import LabelInterface

    config = path.with_suffix(".xml").read_text()
    interface = None if "BitmaskLabels" in config else LabelInterface(config)
    found: Found = {}
    for task in json.loads(path.read_text()):
        regions = []
        for prediction in task["predictions"]:
            if interface is not None:
                errors = interface.validate_prediction(prediction, return_errors=True)
                assert not errors, errors
            for region in prediction["result"]:
                size = (region["original_height"], region["original_width"])
                if region["type"] == "brushlabels":
                    mask = brush.decode_rle(region["value"]["rle"]).reshape(*size, 4)[:, :, 3] > 0
                elif region["type"] == "bitmasklabels":
                    mask = _bitmask(region["value"]["imageDataURL"], size)
                else:
                    mask = _polygon(np.array(region["value"]["points"]) * (size[1] / 100, size[0] / 100), size)
                regions.append(found_mask(mask, region["value"][region["type"]][0], region["id"]))
        found[task["data"]["image_id"]] = regions
    return found


def _bitmask(url: str, size: tuple[int, int]) -> NDArray[Any]:
    """As the editor does: the picture drawn on a canvas, its alpha."""
    import base64
    import io

    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
        assert picture.size == size[::-1]
        return np.asarray(picture.convert("RGBA"))[:, :, 3] > 0


def _polygon(points: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    from pycocotools import mask as coco_mask

    (rle,) = coco_mask.frPyObjects([points.ravel().tolist()], *size)
    decoded: NDArray[Any] = coco_mask.decode(rle)
    return decoded


def labelme(path: Path) -> Found:
    """LabelMe's own label files, opened with their images."""
    from labelme._label_file import LabelFile

    found: Found = {}
    for file in sorted(path.rglob("*.json")):
        if file.name.startswith("."):
            continue
        opened = LabelFile(str(file))
        content = json.loads(file.read_text())
        size = (content["imageHeight"], content["imageWidth"])
        masks = []
        for shape in opened.shapes:
            (x0, y0), (x1, y1) = np.array(shape["points"]).astype(int)
            mask = np.zeros(size, dtype=bool)
            mask[y0 : y1 + 1, x0 : x1 + 1] = shape["mask"]
            masks.append(found_mask(mask, shape["label"], shape["other_data"]["everymask_id"]))
        found[content["everymask_image_id"]] = masks
    return found


def x_anylabeling(path: Path) -> Found:
    """X-AnyLabeling's own label files, opened with their images, saved again, and read a second time."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from anylabeling.views.labeling.label_file import LabelFile

    found: Found = {}
    for file in sorted(path.rglob("*.json")):
        if file.name.startswith("."):
            continue
        opened = LabelFile(str(file))
        assert opened.other_data["checked"] is False
        content = json.loads(file.read_text())
        size = (content["imageHeight"], content["imageWidth"])
        groups: dict[str, tuple[str, NDArray[Any]]] = {}
        for shape in opened.shapes:
            kept = shape.to_dict() if hasattr(shape, "to_dict") else shape.__dict__
            mask_id = kept.get("everymask_id") or shape.other_data["everymask_id"]
            points = np.array([[point.x(), point.y()] for point in shape.points])
            before = groups.get(mask_id, (shape.label, np.zeros(size, dtype=bool)))
            groups[mask_id] = (shape.label, before[1] | _polygon(points, size).astype(bool))
        found[opened.other_data["everymask_image_id"]] = [
            found_mask(mask, label, mask_id) for mask_id, (label, mask) in groups.items()
        ]
    return found


def coco_to_custom(path: Path) -> Found:
    """COCO as X-AnyLabeling imports it."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from anylabeling.views.labeling.label_converter import LabelConverter

    found: Found = {}
    with tempfile.TemporaryDirectory() as folder:
        LabelConverter().coco_to_custom(str(path), folder, "polygon")
        for file in sorted(Path(folder).glob("*.json")):
            content = json.loads(file.read_text())
            size = (content["imageHeight"], content["imageWidth"])
            groups: dict[Any, tuple[str, NDArray[Any]]] = {}
            for number, shape in enumerate(content["shapes"]):
                key = ("group", shape["group_id"]) if shape["group_id"] is not None else ("alone", number)
                before = groups.get(key, (shape["label"], np.zeros(size, dtype=bool)))
                groups[key] = (shape["label"], before[1] | _polygon(np.array(shape["points"]), size).astype(bool))
            found[content["imagePath"]] = [found_mask(mask, label) for label, mask in groups.values()]
    return found


def convert_coco_to_ls(path: Path) -> Found:
    """COCO as Label Studio's own converter imports it."""
    from label_studio_sdk.converter.imports.coco import convert_coco_to_ls as convert

    found: Found = {}
    with tempfile.TemporaryDirectory() as folder:
        convert(str(path), str(Path(folder) / "tasks.json"), out_type="predictions")
        for task in json.loads((Path(folder) / "tasks.json").read_text()):
            found[task["data"]["image"]] = [
                found_mask(
                    _polygon(
                        np.array(region["value"]["points"])
                        * (region["original_width"] / 100, region["original_height"] / 100),
                        (region["original_height"], region["original_width"]),
                    ),
                    region["value"]["polygonlabels"][0],
                )
                for region in task["predictions"][0]["result"]
                if region["type"] == "polygonlabels"
            ]
    return found


@contextmanager
def mongodb() -> Iterator[str]:
    """The address of a database that ends with the block."""
    # Not imported yet: then FiftyOne would have looked for its address already.
    spec = find_spec("fiftyone")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (package,) = spec.submodule_search_locations
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(package) / "db" / "bin" / "mongod"
    with tempfile.TemporaryDirectory() as folder:
        options = ["--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
        server = subprocess.Popen([str(program), *options], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if "Waiting for connections" in line:
                    break
            threading.Thread(target=server.stdout.read, daemon=True).start()
            yield f"mongodb://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


def fiftyone(path: Path) -> Found:
    """A FiftyOne data set, opened as its next line says."""
    found: Found = {}
    with mongodb() as address:
        os.environ |= {"FIFTYONE_DATABASE_URI": address, "FIFTYONE_DO_NOT_TRACK": "true"}
        import fiftyone as fo

        dataset = fo.Dataset.from_dir(str(path), dataset_type=fo.types.FiftyOneDataset)
        assert dataset.count_values("tags") in ({}, {"train": 1, "val": 2}), dataset.count_values("tags")
        for sample in dataset:
            assert Path(sample.filepath).is_file()
            assert 0 <= sample.doubt <= 1
            width, height = sample.metadata.width, sample.metadata.height
            found[sample.image_id] = []
            for item in sample.labels.detections:
                mask = np.zeros((height, width), dtype=bool)
                x, y, across, down = (np.array(item.bounding_box) * [width, height, width, height]).round().astype(int)
                mask[y : y + down, x : x + across] = item.mask
                assert 0 < item.confidence <= 1
                found[sample.image_id].append(found_mask(mask, item.label, item.id))
    return found


TOOLS = {
    "datumaro-coco": datumaro("coco_instances"),
    "datumaro-panoptic": datumaro("coco_panoptic"),
    "datumaro-cvat": datumaro("cvat"),
    "datumaro-voc": datumaro("voc_segmentation"),
    "label-studio-sdk": label_studio,
    "label-studio-coco": convert_coco_to_ls,
    "labelme": labelme,
    "x-anylabeling": x_anylabeling,
    "x-anylabeling-coco": coco_to_custom,
    "fiftyone": fiftyone,
}

if __name__ == "__main__":
    print("\n" + json.dumps(TOOLS[sys.argv[1]](Path(sys.argv[2]))))
