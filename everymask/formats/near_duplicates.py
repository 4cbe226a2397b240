"""The one definition of pictures that differ only in size, compression or small shifts of brightness.

Our choice: two thumbnails are alike if at most 7 of 64 comparisons of neighbouring grey values differ (the difference
hash), and their colours differ by less than 10 of 255 on average.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Thumbnail = NDArray[np.uint8]
"""(8, 9, 3) RGB."""

_ROWS, _COLUMNS = 8, 9
_MAX_BITS = 7
_MAX_COLOUR = 10.0
_BANDS = 8
"""Bytes of a hash; two hashes that differ in at most `_MAX_BITS` bits share at least one byte."""


def thumbnail(image: NDArray[np.uint8]) -> Thumbnail:
    """The thumbnail of an (H, W, 3) RGB image."""
    return np.asarray(Image.fromarray(image).resize((_COLUMNS, _ROWS), Image.Resampling.BOX))


def alike(thumbnails: Sequence[Thumbnail]) -> list[int]:
    """For each of N thumbnails the first of its group; a group is a chain of alike thumbnails.

    Time grows with the distinct thumbnails that share a band of their hash, not with all pairs.
    """
    if not thumbnails:
        return []
    pictures = np.stack(thumbnails).astype(np.int16)
    grey = pictures.sum(axis=3)
    hashes = np.packbits((grey[:, :, 1:] > grey[:, :, :-1]).reshape(len(pictures), -1), axis=1)
    leader = np.arange(len(pictures))

    def find(item: int) -> int:
        while leader[item] != item:
            leader[item] = leader[leader[item]]
            item = int(leader[item])
        return item

    for band in range(_BANDS):
        order = np.argsort(hashes[:, band], kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(hashes[order, band])) + 1):
            kept: list[int] = []
            for item in bucket.tolist() if len(bucket) > 1 else ():
                bits = np.bitwise_count(hashes[kept] ^ hashes[item]).sum(axis=1)
                near = [kept[place] for place in np.flatnonzero(bits <= _MAX_BITS)]
                same = [other for other in near if np.abs(pictures[other] - pictures[item]).mean() < _MAX_COLOUR]
                for other in same:
                    first, second = sorted((find(other), find(item)))
                    leader[second] = first
                # A picture that equals one that is kept finds nothing new for those that follow.
                if not any((pictures[other] == pictures[item]).all() for other in same):
                    kept.append(item)
    return [find(item) for item in range(len(pictures))]
