"""CVAT for images 1.1 (https://docs.cvat.ai, "CVAT for image"): one XML file with masks.

A mask is run lengths of its tight box in row-major order, background first. CVAT gives masks no ids of its own that
last, so the id is a text attribute, `everymask_id`, declared on every label, and so is the score.
"""

from __future__ import annotations

import io
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from everymask.formats.class_names import ClassNames
from everymask.formats.format import Destination, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.formats.spool import Spool
from everymask.masks.runs import crop_of, rle_from_crop, row_major_runs
from everymask.records import LabelledMask, Rle

ID_ATTRIBUTE, SCORE_ATTRIBUTE = "everymask_id", "score"
_NOT_IN_XML = r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"


def crop_of_runs(runs: NDArray[np.int64], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(h, w) bool of run lengths in row-major order, background first.

    Raises:
        ValueError: they do not add up to h x w.
    """
    if runs.min(initial=0) < 0 or int(runs.sum()) != size_hw[0] * size_hw[1]:
        raise ValueError(f"its run lengths do not add up to its box of {size_hw[1]} x {size_hw[0]} pixels")
    return np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(size_hw)


def cvat_mask(mask: LabelledMask, crop: NDArray[np.bool_]) -> str:
    """One mask, which is not empty, as an element.

    Args:
        mask: the mask.
        crop: its pixels inside its box.
    """
    x0, y0, x1, y1 = mask.box_xyxy
    runs = ", ".join(map(str, row_major_runs(crop, (0, 0), (y1 - y0, x1 - x0)).tolist()))
    return (
        f'    <mask label={quoteattr(ClassNames.name(mask))} source="auto" occluded="0" rle="{runs}" left="{x0}" '
        f'top="{y0}" width="{x1 - x0}" height="{y1 - y0}" z_order="0">\n'
        f'      <attribute name="{ID_ATTRIBUTE}">{mask.mask_id}</attribute>\n'
        f'      <attribute name="{SCORE_ATTRIBUTE}">{mask.score!r}</attribute>\n'
        "    </mask>\n"
    )


class CvatWriter:
    """Writes one file; images wait on disk until their order is known."""

    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination
        self._images = Spool(destination.folder / "images.spool")

    def add(self, exported: ExportedImage) -> list[Rle]:
        """See `Writer`."""
        height, width = exported.labels.size_hw
        text = io.StringIO()
        name = quoteattr(exported.name)
        text.write(f'  <image id="{exported.number - 1}" name={name} width="{width}" height="{height}">\n')
        written = []
        for mask in exported.labels.masks:
            if mask.area == 0:
                written.append(mask.rle)
                continue
            x0, y0, x1, y1 = mask.box_xyxy
            element = cvat_mask(mask, crop_of(mask.rle, mask.box_xyxy))
            text.write(element)
            runs = np.fromstring(element.split('rle="', 1)[1].split('"', 1)[0], dtype=np.int64, sep=",")
            written.append(rle_from_crop(crop_of_runs(runs, (y1 - y0, x1 - x0)), (x0, y0), (height, width)))
        text.write("  </image>\n")
        self._images.add(exported.number, text.getvalue().encode())
        return written

    def close(self) -> None:
        """See `Writer`."""
        attributes = "".join(
            f"<attribute><name>{name}</name><mutable>False</mutable><input_type>text</input_type><default_value>"
            "</default_value><values></values></attribute>"
            for name in (ID_ATTRIBUTE, SCORE_ATTRIBUTE)
        )
        labels = "".join(
            f"        <label><name>{escape(name)}</name><attributes>{attributes}</attributes></label>\n"
            for name in self._destination.names.dense()
        )
        head = (
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <task>\n'
            f"      <name>everymask</name>\n      <size>{self._destination.images}</size>\n"
            f"      <labels>\n{labels}      </labels>\n    </task>\n  </meta>\n"
        )
        with (self._destination.folder / self._destination.main).open("wb") as stream:
            stream.write(head.encode())
            for piece in self._images.pieces():
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
    refused_name=_NOT_IN_XML,
)
