"""CVAT for images 1.1 (https://docs.cvat.ai, "CVAT for image"): one XML file with masks.

A mask is row-major run lengths of its tight box, background first. CVAT's own mask ids do not last, so every label
declares `everymask_id` and the score as text attributes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from everymask.formats.class_names import ClassNames
from everymask.formats.format import Destination, Ended, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.masks.column_runs import ColumnRuns
from everymask.records import LabelledMask, Rle

ID_ATTRIBUTE, SCORE_ATTRIBUTE = "everymask_id", "score"
_NOT_IN_XML = r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"


def cvat_mask(mask: LabelledMask, runs: str) -> str:
    """A non-empty mask as an XML element; `runs` are its run lengths inside its box, row by row."""
    x0, y0, x1, y1 = mask.box_xyxy
    return (
        f'    <mask label={quoteattr(ClassNames.name(mask))} source="auto" occluded="0" rle="{runs}" left="{x0}" '
        f'top="{y0}" width="{x1 - x0}" height="{y1 - y0}" z_order="0">\n'
        f'      <attribute name="{ID_ATTRIBUTE}">{mask.mask_id}</attribute>\n'
        f'      <attribute name="{SCORE_ATTRIBUTE}">{mask.score!r}</attribute>\n'
        "    </mask>\n"
    )


def runs_in_boxes(masks: Sequence[LabelledMask], size_hw: tuple[int, int]) -> list[str]:
    """Run lengths of each mask inside its box, row by row, background first, as text."""
    rows = ColumnRuns.of_rles([mask.rle for mask in masks], size_hw).transposed()
    runs, bounds = rows.in_boxes(_transposed_boxes(masks))
    texts = list(map(str, runs.tolist()))
    return [", ".join(texts[first:last]) for first, last in itertools.pairwise(bounds.tolist())]


def rles_of_runs(texts: Sequence[str], masks: Sequence[LabelledMask], size_hw: tuple[int, int]) -> list[Rle]:
    """The masks that a reader gets from `runs_in_boxes`."""
    counts = [text.count(",") + 1 for text in texts]
    runs = np.fromstring(", ".join(texts), dtype=np.int64, sep=",")
    rows = ColumnRuns.of_boxes(runs, np.cumsum([0, *counts]), _transposed_boxes(masks), size_hw[::-1])
    return rows.transposed().rles(len(masks))


def _transposed_boxes(masks: Sequence[LabelledMask]) -> NDArray[np.int64]:
    return np.array([mask.box_xyxy for mask in masks], dtype=np.int64).reshape(-1, 4)[:, [1, 0, 3, 2]]


class CvatWriter:
    """Writes one file; images wait on disk until their order is known."""

    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._images = destination.spool("images")

    def add(self, exported: ExportedImage) -> list[Rle]:
        height, width = exported.labels.size_hw
        masks = [mask for mask in exported.labels.masks if mask.area]
        runs = runs_in_boxes(masks, (height, width))
        read = iter(rles_of_runs(runs, masks, (height, width)))
        name = quoteattr(exported.name)
        text = f'  <image id="{exported.number - 1}" name={name} width="{width}" height="{height}">\n'
        text += "".join(map(cvat_mask, masks, runs)) + "  </image>\n"
        self._images.add(exported.number, text.encode())
        return [next(read) if mask.area else mask.rle for mask in exported.labels.masks]

    def end(self) -> Ended:
        self._images.end()
        return Ended({"images": self._images.path.name})


def _write_file(destination: Destination, options: ExportOptions, ended: Sequence[Ended]) -> None:
    attributes = "".join(
        f"<attribute><name>{name}</name><mutable>False</mutable><input_type>text</input_type><default_value>"
        "</default_value><values></values></attribute>"
        for name in (ID_ATTRIBUTE, SCORE_ATTRIBUTE)
    )
    labels = "".join(
        f"        <label><name>{escape(name)}</name><attributes>{attributes}</attributes></label>\n"
        for name in destination.names.dense()
    )
    head = (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <task>\n'
        f"      <name>everymask</name>\n      <size>{destination.images}</size>\n"
        f"      <labels>\n{labels}      </labels>\n    </task>\n  </meta>\n"
    )
    with (destination.folder / destination.main).open("wb") as stream:
        stream.write(head.encode())
        for piece in destination.pieces(ended, "images"):
            stream.write(piece)
        stream.write(b"</annotations>\n")


CVAT = Format(
    name="cvat",
    summary="CVAT for images 1.1, one XML file with masks",
    suffix=".xml",
    naming=Naming.IMAGE_ID,
    keeps=frozenset(Keeps),
    exact=True,
    writer=CvatWriter,
    close=_write_file,
    refused_name=_NOT_IN_XML,
)
