"""Labels → the JSON of an answer, in the requested mask format."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.masks.painting import semantic_map
from everymask.masks.polygons import coco_segmentation
from everymask.masks.rle import decode_mask
from everymask.pictures.colours import mask_colours
from everymask.records import ImageLabels, LabelledMask, Rle
from serve.schema import ClassesAnswer, LabelsAnswer, Mask, MaskFormat, RleMask, SemanticMap


def to_mask(mask: LabelledMask, mask_format: MaskFormat) -> Mask:
    """One mask in the API's form."""
    x0, y0, x1, y1 = mask.box_xyxy
    answer = Mask(
        id=mask.mask_id,
        bbox=[x0, y0, x1 - x0, y1 - y0],
        area=mask.area,
        predicted_iou=mask.predicted_iou,
        stability_score=mask.stability_score,
        point_coords=list(mask.point_coords),
        score=mask.score,
        class_id=mask.class_id,
        class_name=mask.class_name,
        uncertainty=mask.uncertainty,
        agreement=mask.agreement,
    )
    match mask_format:
        case "rle":
            answer.rle = RleMask(size=mask.rle["size"], counts=mask.rle["counts"])
        case "polygon":
            answer.polygon = polygons(mask.rle, mask.box_xyxy)
        case "png":
            answer.png_base64 = png_base64(Image.fromarray(decode_mask(mask.rle)))
    return answer


def polygons(rle: Rle, box_xyxy: tuple[int, int, int, int]) -> list[list[float]]:
    """COCO polygons of a mask, with its parts and holes, from its box alone."""
    x0, y0, x1, y1 = box_xyxy
    window: NDArray[np.bool_] = decode_mask(rle)[y0:y1, x0:x1]
    return [
        [value + (x0 if i % 2 == 0 else y0) for i, value in enumerate(polygon)] for polygon in coco_segmentation(window)
    ]


def png_base64(image: Image.Image) -> str:
    """An image as a base64 PNG."""
    buffer = io.BytesIO()
    # The fastest level: these compress well at any, and the client is waiting.
    image.save(buffer, format="PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def labels_answer(
    labels: ImageLabels, image_id: str, cached: bool, model: str, seconds: float, mask_format: MaskFormat
) -> LabelsAnswer:
    """The answer of `/v1/entities` and `/v1/points`."""
    height, width = labels.size_hw
    return LabelsAnswer(
        image_id=image_id,
        width=width,
        height=height,
        coverage=labels.coverage,
        embedding_cache="hit" if cached else "miss",
        seconds=seconds,
        model=model,
        masks=[to_mask(mask, mask_format) for mask in labels.masks],
    )


def classes_answer(
    labels: ImageLabels,
    image_id: str,
    cached: bool,
    model: str,
    seconds: float,
    mask_format: MaskFormat,
    head: str | None,
    classes: tuple[str, ...],
    with_map: bool,
) -> ClassesAnswer:
    """The answer of `/v1/classes`."""
    common = labels_answer(labels, image_id, cached, model, seconds, mask_format)
    return ClassesAnswer(
        **common.model_dump(),
        head=head,
        classes=list(classes),
        missed=labels.missed or 0.0,
        presence=None if labels.presence is None else list(labels.presence),
        semantic_map=_map_answer(labels, classes) if with_map else None,
    )


def _map_answer(labels: ImageLabels, classes: tuple[str, ...]) -> SemanticMap:
    colours = [[0, 0, 0], *mask_colours(len(classes)).tolist()]
    pixels = semantic_map(labels)
    if len(colours) > 256:  # more than a palette holds; the values are the same, in 16-bit grey
        return SemanticMap(png_base64=png_base64(Image.fromarray(pixels.astype(np.uint16))), palette=colours)
    image = Image.fromarray(pixels.astype(np.uint8), mode="P")
    image.putpalette([value for colour in colours for value in colour])
    return SemanticMap(png_base64=png_base64(image), palette=colours)
