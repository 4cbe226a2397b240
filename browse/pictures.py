"""Pictures of the store's images and of nothing else; thumbnails are made once and kept."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from browse.collection import Looked
from everymask.errors import EverymaskError, InputError
from everymask.files.addresses import AddressPolicy
from everymask.files.storage import one_line
from everymask.images.decoding import ImageLimits, decode_image
from everymask.images.files import read_labelled_bytes
from everymask.images.resizing import shrink
from everymask.labels.erasure import erased_digests, id_digest
from everymask.labels.store import LabelStore
from everymask.pictures.embedded import jpeg
from everymask.pictures.overlay import painted
from everymask.records import ImageLabels

THUMBNAIL_SIDE, LARGE_SIDE = 400, 2048
"""Longer sides, in pixels."""
_LARGE_QUALITY = 90
_AT_ONCE = 2
"""Images decoded at a time; each takes up to 24 bytes a pixel."""
_PAPER = 225


class PictureError(InputError):
    """An image has no picture; the message says why."""


class Pictures:
    """Reads images that the address policy allows, and only the bytes that were labelled.

    `policy` says which of the store's addresses may be opened, `limits` how large an image may be, and `folder` where
    thumbnails are kept.
    """

    def __init__(self, store: LabelStore, policy: AddressPolicy, limits: ImageLimits, folder: Path) -> None:
        self._store = store
        self._policy = policy
        self._limits = limits
        self._folder = folder
        self._decoding = threading.Semaphore(_AT_ONCE)

    def kept(self, image_id: str, signature: str, masks: bool) -> bytes | None:
        """A kept thumbnail, or None."""
        with suppress(OSError):
            return self._file(image_id, signature, masks).read_bytes()
        return None

    def thumbnail(self, looked: Looked, signature: str, masks: bool) -> bytes:
        """A small JPEG, with or without masks; masks alone if the image is unavailable.

        Args:
            signature: of its labels, part of the thumbnail's key.
            masks: whether to draw them.

        Raises:
            PictureError: there is neither a picture nor a mask.
        """
        with self._decoding:
            labels = looked.labels
            small = self._small(looked, labels)
            found = jpeg(painted(small, labels) if masks and labels is not None else small)
        file = self._file(looked.row.image_id, signature, masks)
        _keep(file, found)
        return found

    def large(self, looked: Looked) -> bytes:
        """A JPEG that fills a screen; PictureError if the image is unavailable."""
        with self._decoding:
            return jpeg(shrink(self._pixels(looked), LARGE_SIDE), _LARGE_QUALITY)

    def bytes_of(self, looked: Looked) -> bytes:
        """The image file itself, for the service; PictureError if it is unavailable."""
        row = looked.row
        try:
            return read_labelled_bytes(row.uri, row.content_sha256, self._limits, self._policy, row.member)
        except (EverymaskError, OSError) as error:
            raise PictureError(one_line(error)) from error

    def forget_erased(self) -> None:
        """Delete the pictures of images erased from the store.

        Raises:
            InputError, OSError: the list of erased images cannot be read.
        """
        for digest in erased_digests(self._store):
            for file in (self._folder / digest[:2]).glob(f"{digest}-*"):
                file.unlink(missing_ok=True)

    def _small(self, looked: Looked, labels: ImageLabels | None) -> NDArray[np.uint8]:
        try:
            return shrink(self._pixels(looked), THUMBNAIL_SIDE)
        except PictureError:
            if labels is None or not labels.masks:
                raise
        height, width = labels.size_hw
        scale = min(1.0, THUMBNAIL_SIDE / max(height, width))
        return np.full((max(1, round(height * scale)), max(1, round(width * scale)), 3), _PAPER, dtype=np.uint8)

    def _pixels(self, looked: Looked) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, of the labels' size."""
        data = self.bytes_of(looked)
        try:
            pixels = decode_image(data, self._limits)
        except EverymaskError as error:
            raise PictureError(one_line(error)) from error
        labels = looked.labels
        if labels is not None and pixels.shape[:2] != labels.size_hw:
            raise PictureError("the picture has another size than its labels")
        return pixels

    def _file(self, image_id: str, signature: str, masks: bool) -> Path:
        digest = id_digest(image_id)
        key = hashlib.sha256(signature.encode()).hexdigest()[:24]
        return self._folder / digest[:2] / f"{digest}-{key}-{'masks' if masks else 'plain'}.jpg"


def _keep(file: Path, data: bytes) -> None:
    """Write atomically, without syncing or failing on a full disk: the file can be made again."""
    draft = file.with_name(f".{uuid.uuid4().hex}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        os.replace(draft, file)
