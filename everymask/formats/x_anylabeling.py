"""X-AnyLabeling (https://github.com/CVHub520/X-AnyLabeling): a JSON file beside each image.

It has no masks, only polygons without holes: parts are cut through their holes. The polygons of a mask share a
`group_id`, which its own exports merge. It keeps unknown keys, so ids come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from everymask.formats.class_names import ClassNames
from everymask.formats.format import Destination, Ended, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.formats.labelme import image_beside, write_beside
from everymask.formats.outlines import Polygon, simple_polygons_of
from everymask.masks.checked import fill_polygons
from everymask.records import LabelledMask, Rle

_VERSION = "4.2.1"


def x_anylabeling_shapes(mask: LabelledMask, group_id: int, polygons: Sequence[Polygon]) -> list[dict[str, Any]]:
    """One mask's polygons as shapes of one group."""
    return [
        {
            "label": ClassNames.name(mask),
            "score": mask.score,
            "points": polygon.tolist(),
            "group_id": group_id,
            "description": "",
            "difficult": False,
            "shape_type": "polygon",
            "flags": {},
            "attributes": {},
            "kie_linking": [],
            "everymask_id": mask.mask_id,
        }
        for polygon in polygons
    ]


class XAnyLabelingWriter:
    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination
        self._tolerance_px = options.tolerance_px

    def add(self, exported: ExportedImage) -> list[Rle]:
        height, width = exported.labels.size_hw
        shapes, written = [], []
        masks = exported.labels.masks
        polygons_of = simple_polygons_of(masks, (height, width), self._tolerance_px)
        for number, (mask, of_mask) in enumerate(zip(masks, polygons_of, strict=True), start=1):
            found = x_anylabeling_shapes(mask, number, of_mask)
            shapes += found
            polygons = [[value for point in shape["points"] for value in point] for shape in found]
            written.append(fill_polygons(polygons, (height, width)))
        content = {
            "version": _VERSION,
            "flags": {},
            "checked": False,
            "shapes": shapes,
            **image_beside(exported),
            "everymask_tolerance_px": self._tolerance_px,
        }
        write_beside(self._destination, exported, content)
        return written

    def end(self) -> Ended:
        return Ended()


X_ANYLABELING = Format(
    name="x-anylabeling",
    summary="X-AnyLabeling, a JSON file with polygons beside each image",
    suffix="",
    naming=Naming.STEM,
    keeps=frozenset(Keeps),
    exact=True,
    writer=XAnyLabelingWriter,
    tolerance_px=1.0,
    image_folder="",
)
