"""Whether a picture can serve as an exemplar: usable, new, and of a single object."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.classes.embeddings import MaskEmbeddings
from everymask.errors import ConfigurationError
from everymask.masks.rle import rle_areas


@dataclass(frozen=True)
class PictureFilter:
    """Limits on the pixels."""

    min_side_px: int = 96
    """Least length of the shorter side."""
    max_aspect_ratio: float = 3.0
    """Greatest ratio of the longer to the shorter side."""
    min_contrast: float = 8.0
    """Least standard deviation of the grey values, in levels of 255. Blank pictures have none, such as those blacked
    out by a diffusion model's safety checker."""

    def problem(self, image: NDArray[np.uint8]) -> str | None:
        """Why an RGB uint8 (H, W, 3) picture is not used, or None."""
        height, width = image.shape[:2]
        short, long = min(height, width), max(height, width)
        if short < self.min_side_px:
            return f"shorter side of {short} px is below {self.min_side_px}"
        if long > self.max_aspect_ratio * short:
            return f"aspect ratio of {long / short:.1f} is above {self.max_aspect_ratio:g}"
        contrast = float(image.mean(axis=2).std())
        if contrast < self.min_contrast:
            return f"contrast of {contrast:.1f} is below {self.min_contrast:g}"
        return None


class DuplicateFilter:
    """Remembers pictures by a 64-bit perceptual hash (of the discrete cosine transform) and refuses near-duplicates.

    Args:
        max_distance: pictures whose hashes differ in at most this many bits are near-duplicates.

    Raises:
        ConfigurationError: the package that computes the hash is not installed.
    """

    def __init__(self, max_distance: int = 6) -> None:
        try:
            import imagehash
        except ImportError as error:
            raise ConfigurationError(
                "near-duplicates are found with the package imagehash; pip install 'everymask[synthesis]'"
            ) from error
        self._hash = imagehash.phash
        self._max_distance = max_distance
        self._seen: defaultdict[str, list[int]] = defaultdict(list)

    def hash(self, image: NDArray[np.uint8]) -> str:
        """The perceptual hash of an RGB uint8 (H, W, 3) picture: 16 hexadecimal digits."""
        return str(self._hash(Image.fromarray(image)))

    def problem(self, subject: str, perceptual_hash: str) -> str | None:
        """Why a picture of a subject is not used, or None. Does not remember the picture."""
        bits = int(perceptual_hash, 16)
        if any((bits ^ other).bit_count() <= self._max_distance for other in self._seen[subject]):
            return "near-duplicate of another exemplar"
        return None

    def remember(self, subject: str, perceptual_hash: str) -> None:
        """Refuse near-duplicates of this picture from now on."""
        self._seen[subject].append(int(perceptual_hash, 16))


@dataclass(frozen=True)
class SingleObjectFilter:
    """Limits on the masks: is there one clear object? (Our choice; the paper does not check its pictures.)"""

    min_object_share: float = 0.05
    """Least share of the picture that its largest object covers."""
    max_frame_share: float = 0.5
    """A mask that covers more of the picture's frame is background, not an object."""

    def problem(self, embeddings: MaskEmbeddings) -> str | None:
        """Why a picture with these masks is not used, or None."""
        if not len(embeddings):
            return "no mask"
        height, width = embeddings.size_hw
        objects = embeddings.frame_share <= self.max_frame_share
        share = rle_areas(embeddings.rles)[objects].max(initial=0) / (height * width)
        if share < self.min_object_share:
            return f"largest object covers {share:.1%}, less than {self.min_object_share:.0%}"
        return None
