"""PASCAL VOC segmentation: class and object maps as palette PNGs, a list of images, and labelmap.txt.

    SegmentationClass/IMAGE without ending.png     0 background, class_id + 1
    SegmentationObject/IMAGE without ending.png    0 background, k for the k-th mask
    ImageSets/Segmentation/default.txt             IMAGE without ending, one a line
    labelmap.txt                                   name:r,g,b:: for each class (CVAT, Datumaro)

VOC keeps 255 for "void"; of overlapping masks the pixels go to the higher score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import ConfigurationError
from everymask.formats.format import Destination, Ended, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.formats.naming import stem_path
from everymask.masks.painting import label_map_by_score
from everymask.masks.rle import encode_label_map
from everymask.records import Rle

_MAX_VALUE = 254


def voc_palette() -> NDArray[np.uint8]:
    """(256, 3) colours of VOC's development kit: the bits of the index, spread over the channels from the highest."""
    index = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


class VocWriter:
    """Writes two maps for each image; the lists and classes at the end."""

    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination
        self._palette = voc_palette()
        self._stems = destination.spool("stems")

    def add(self, exported: ExportedImage) -> list[Rle]:
        labels = exported.labels
        classes = [self._destination.names.index(mask) + 1 for mask in labels.masks]
        if max(len(classes), *classes, 0) > _MAX_VALUE:
            raise ConfigurationError(
                f"{exported.image.image_id} has {len(classes)} masks and classes up to {max(classes)}; VOC holds "
                f"{_MAX_VALUE} of each, so choose coco or coco-panoptic"
            )
        numbers = label_map_by_score(labels)
        stem = stem_path(exported.name)
        self._save("SegmentationClass", stem, np.array([*classes, 0], dtype=np.uint8)[numbers])
        self._save("SegmentationObject", stem, (numbers + 1).astype(np.uint8))
        self._stems.add(exported.number, f"{stem}\n".encode())
        return encode_label_map(numbers, len(labels.masks))

    def _save(self, folder: str, stem: str, values: NDArray[np.uint8]) -> None:
        path = self._destination.folder / folder / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(values)
        picture.putpalette(self._palette.ravel().tolist())
        picture.save(path)

    def end(self) -> Ended:
        self._stems.end()
        return Ended({"stems": self._stems.path.name})


def _write_lists(destination: Destination, options: ExportOptions, ended: Sequence[Ended]) -> None:
    folder = destination.folder / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "default.txt").open("wb") as stream:
        for piece in destination.pieces(ended, "stems"):
            stream.write(piece)
    names = ["background", *destination.names.dense()]
    lines = [
        f"{name}:{','.join(map(str, colour))}::\n" for name, colour in zip(names, voc_palette().tolist(), strict=False)
    ]
    (destination.folder / "labelmap.txt").write_text("".join(lines), encoding="utf-8")


VOC = Format(
    name="voc",
    summary="PASCAL VOC segmentation, palette PNGs and lists: most segmentation trainers, CVAT, Datumaro",
    suffix="",
    naming=Naming.STEM,
    keeps=frozenset({Keeps.HOLES, Keeps.PARTS}),
    exact=True,
    writer=VocWriter,
    close=_write_lists,
    image_folder="JPEGImages",
    draws_masks=True,
    refused_name=r"[\0\n\r]|^[#\s]|\s$",  # the list has one name a line, stripped, and # begins a comment
)
