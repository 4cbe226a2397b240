"""Every export format; the command line, `--help` and the documentation's table use this list."""

from __future__ import annotations

from everymask.errors import ConfigurationError
from everymask.formats.coco import COCO, COCO_FOLDERS, COCO_ROBOFLOW
from everymask.formats.coco_panoptic import COCO_PANOPTIC
from everymask.formats.cvat import CVAT
from everymask.formats.fiftyone import FIFTYONE
from everymask.formats.format import Format, Keeps
from everymask.formats.hugging_face import HUGGING_FACE
from everymask.formats.label_png import ENTITY_PNG, SEMANTIC_PNG
from everymask.formats.label_studio import LABEL_STUDIO
from everymask.formats.labelme import LABELME
from everymask.formats.voc import VOC
from everymask.formats.web_dataset import WEB_DATASET
from everymask.formats.x_anylabeling import X_ANYLABELING
from everymask.formats.yolo import YOLO

FORMATS: dict[str, Format] = {
    item.name: item
    for item in (
        COCO,
        COCO_FOLDERS,
        COCO_ROBOFLOW,
        COCO_PANOPTIC,
        LABEL_STUDIO,
        X_ANYLABELING,
        LABELME,
        CVAT,
        VOC,
        YOLO,
        HUGGING_FACE,
        WEB_DATASET,
        FIFTYONE,
        SEMANTIC_PNG,
        ENTITY_PNG,
    )
}


def find_format(name: str) -> Format:
    """The format of that name; ConfigurationError if there is none."""
    if name not in FORMATS:
        raise ConfigurationError(f"there is no format {name!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def help_text() -> str:
    """The formats for `--help`: a line each, with the ways to write masks."""
    lines = []
    for item in FORMATS.values():
        choices = f" [--segmentation {'|'.join(item.segmentations)}]" if item.segmentations else ""
        lines.append(f"{item.name}: {item.summary}{choices}")
    return ".\n".join(lines)


def markdown_table() -> str:
    """The documentation's table of formats."""
    header = ["format", "what it is and who reads it", "output", "`--segmentation`", "exact", "keeps", "named by"]
    rows = [header, ["---"] * len(header)]
    for item in FORMATS.values():
        rows.append(
            [
                f"`{item.name}`",
                item.summary,
                f"`{item.suffix}` file" if item.suffix else "folder",
                ", ".join(f"`{choice}`" for choice in item.segmentations) or "–",
                "yes" if item.exact else "no",
                ", ".join(kept.value for kept in Keeps if kept in item.keeps),
                item.naming.value,
            ]
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
