"""The boxes of PASCAL VOC's objects as a COCO file, with COCO's class names, to cut exemplars from.

python benchmarks/voc_boxes.py --ground-truth VOC2012 --split train --classes person chair --output boxes.json
everymask exemplars --classes person,chair --source boxes --boxes boxes.json --input VOC2012/JPEGImages --output DIR
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.class_material import VOC_NAMES, Half, half_of
from everymask.classes.taxonomy import Taxonomy
from everymask.evaluation.ground_truth import read_voc
from everymask.masks.rle import boxes_from_rles


@dataclass(frozen=True)
class BoxesConfig:
    """Write the boxes of some classes."""

    ground_truth: Path
    """Folder in VOC's layout."""
    classes: tuple[str, ...]
    """COCO's class names."""
    output: Path
    """The file."""
    split: str = "train"
    """Which list in ImageSets/Segmentation."""
    half: Half | None = None
    """Only half of its images, so that the other can be measured on (benchmarks/exemplar_counts.py --half)."""
    per_class: int = 35
    """At most this many objects of each class, in the order of the images' names."""
    least_side: int = 96
    """Objects with a shorter longer side, in pixels, are left out."""


def boxes(config: BoxesConfig) -> dict[str, list[dict[str, object]]]:
    """The file's content."""
    taxonomy = Taxonomy(tuple((VOC_NAMES.get(name, name), name) for name in config.classes))
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    taken = [0] * len(config.classes)
    for name, truth in half_of(read_voc(config.ground_truth, taxonomy, config.split), config.half).items():
        height, width = truth.size_hw
        images.append({"id": len(images) + 1, "file_name": name, "height": height, "width": width})
        for item in truth.instances:
            x0, y0, x1, y1 = boxes_from_rles([item.rle]).tolist()[0]
            if max(x1 - x0, y1 - y0) < config.least_side or taken[item.class_id] >= config.per_class:
                continue
            taken[item.class_id] += 1
            box = {"image_id": len(images), "category_id": item.class_id + 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            annotations.append({"id": len(annotations) + 1, "iscrowd": 0, **box})
    categories: list[dict[str, object]] = [{"id": i, "name": name} for i, name in enumerate(config.classes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def main() -> None:
    config = tyro.cli(BoxesConfig, description=__doc__)
    content = boxes(config)
    config.output.write_text(json.dumps(content), encoding="utf-8")
    print(f"{len(content['annotations'])} boxes in {config.output}")


if __name__ == "__main__":
    main()
