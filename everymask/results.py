"""Masks and labels of `import everymask`, which draw, cut and convert themselves."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import ConfigurationError, InputError
from everymask.images.pixels import ImageLike, rgb_pixels
from everymask.labels.lookup import find_images
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore
from everymask.masks.polygons import Ring, polygons_from_mask
from everymask.masks.rle import decode_mask
from everymask.pictures.overlay import overlay
from everymask.records import ImageLabels, LabelledMask
from everymask.wording import counted

if TYPE_CHECKING:
    import pandas as pd
    import supervision as sv

_NOTEBOOK_SIDE_PX = 900


@dataclass(frozen=True, slots=True, repr=False)
class Mask(LabelledMask):
    """A `LabelledMask` with access to its pixels.

    Examples:
        >>> mask = everymask.open_store("labels")["photo.jpg"].labels.masks[0]
        >>> mask.array.shape, int(mask.array.sum()) == mask.area
        ((120, 180), True)
        >>> mask.crop("photo.jpg").shape
        (120, 45, 4)
    """

    @property
    def array(self) -> NDArray[np.bool_]:
        """(H, W) bool at the image's resolution, decoded on each access."""
        return decode_mask(self.rle)

    def polygon(self) -> list[Ring]:
        """A ring of (x, y) pixel corners for each part, (K, 2) int64; holes are joined in by cuts of no width."""
        return polygons_from_mask(self.array)

    def crop(self, image: ImageLike) -> NDArray[np.uint8]:
        """The mask cut out of its image: (h, w, 4) uint8 RGBA of its box, transparent outside the mask.

        Raises:
            InputError: the image cannot be read, or has another size than the mask.
        """
        x0, y0, x1, y1 = self.box_xyxy
        pixels = _of_size(rgb_pixels(image), (self.rle["size"][0], self.rle["size"][1]))[y0:y1, x0:x1]
        return np.dstack([pixels, self.array[y0:y1, x0:x1].astype(np.uint8) * np.uint8(255)])

    def __repr__(self) -> str:
        name = f"{self.class_name!r}, " if self.class_name is not None else ""
        return f"Mask({name}score {self.score:.3f}, {self.area} px, box {self.box_xyxy})"


@dataclass(frozen=True, slots=True, repr=False)
class Labels(ImageLabels):
    """An image's labels that can be drawn.

    `pixels` are the image as (H, W, 3) uint8 RGB; None for labels from a store, which holds no pictures.

    Examples:
        >>> labels = everymask.label("photo.jpg")
        >>> labels.plot().size
        (180, 120)
    """

    masks: tuple[Mask, ...]
    pixels: NDArray[np.uint8] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, labels: ImageLabels, pixels: NDArray[np.uint8] | None = None) -> Labels:
        """The same labels with the image's (H, W, 3) uint8 pixels, if known."""
        masks = tuple(Mask(*(getattr(mask, entry.name) for entry in fields(LabelledMask))) for mask in labels.masks)
        return cls(labels.size_hw, masks, labels.coverage, labels.missed, labels.presence, pixels)

    def plot(self, image: ImageLike | None = None, *, alpha: float = 0.5, max_side: int | None = None) -> Image.Image:
        """The image under its masks.

        Args:
            image: needed if `pixels` is None.
            alpha: strength of the fill, [0, 1].
            max_side: longer side of the result in pixels; None for the image's own.

        Raises:
            InputError: there is no image, it cannot be read, or it has another size than the labels.
        """
        pixels = self.pixels if image is None else rgb_pixels(image)
        if pixels is None:
            raise InputError("labels out of a store hold no picture; give it: labels.plot('photo.jpg')")
        return Image.fromarray(overlay(_of_size(pixels, self.size_hw), self, alpha, max_side))

    def to_supervision(self) -> sv.Detections:
        """`supervision.Detections` with masks, boxes, scores and any class ids and names.

        Raises:
            ConfigurationError: supervision is not installed.
        """
        try:
            import supervision as sv
        except ImportError as error:
            raise ConfigurationError("supervision is not installed; pip install supervision") from error
        if not self.masks:
            return sv.Detections.empty()
        data: dict[str, Any] = {"mask_id": np.array([mask.mask_id or "" for mask in self.masks])}
        classes = [mask.class_id for mask in self.masks]
        if None not in classes:
            data["class_name"] = np.array([mask.class_name for mask in self.masks])
        return sv.Detections(
            xyxy=np.array([mask.box_xyxy for mask in self.masks], dtype=np.float32),
            mask=np.stack([mask.array for mask in self.masks]),
            confidence=np.array([mask.score for mask in self.masks], dtype=np.float32),
            class_id=None if None in classes else np.array(classes, dtype=np.int64),
            data=data,
        )

    def __repr__(self) -> str:
        height, width = self.size_hw
        return f"Labels({width} x {height} px, {counted(len(self.masks), 'mask')}, {self.coverage:.0%} covered)"

    def _repr_png_(self) -> bytes | None:
        """The picture that a notebook shows."""
        if self.pixels is None:
            return None
        buffer = io.BytesIO()
        self.plot(max_side=_NOTEBOOK_SIDE_PX).save(buffer, "PNG")
        return buffer.getvalue()


class Store(LabelStore):
    """A label store as a mapping from image ids to images.

    Examples:
        >>> store = everymask.open_store("labels")
        >>> [image.image_id for image in store]
        ['photo.jpg']
        >>> store.to_pandas()["area"].tolist()
        [5400, 5400]
    """

    def __getitem__(self, image_id: str) -> ImageRow:
        """One image, whose `labels` are `Labels`; KeyError if no image has that id."""
        found = find_images(self, [image_id])
        if not found:
            raise KeyError(f"{image_id!r} is not in {self.uri}")
        return _as_labels(found[image_id])

    def __iter__(self) -> Iterator[ImageRow]:
        """Every image, streaming; `labels` are `Labels`, or None if `error` says why."""
        return (_as_labels(image) for image in self.images())

    def __len__(self) -> int:
        """Number of images, failed ones included."""
        return self.summary().images

    def to_pandas(self) -> pd.DataFrame:
        """One row per mask: `image_id`, `uri`, and the mask's fields; `rle` holds its pixels."""
        import pandas as pd

        names = [entry.name for entry in fields(LabelledMask)]
        return pd.DataFrame(
            [
                (image.image_id, image.uri, *(getattr(mask, name) for name in names))
                for image in self.images()
                if image.labels is not None
                for mask in image.labels.masks
            ],
            columns=["image_id", "uri", *names],
        )

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"


def _as_labels(image: ImageRow) -> ImageRow:
    return image if image.labels is None else replace(image, labels=Labels.of(image.labels))


def _of_size(pixels: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    if pixels.shape[:2] != size_hw:
        raise InputError(
            f"the image is {pixels.shape[1]} x {pixels.shape[0]} pixels, its labels are for {size_hw[1]} x "
            f"{size_hw[0]}; give the image that was labelled"
        )
    return pixels
