"""The images of an export, put beside their labels as links or copies."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path, PurePosixPath

from PIL import Image

from everymask.errors import ConfigurationError, EverymaskError, InputError
from everymask.files.addresses import AddressPolicy
from everymask.files.storage import is_remote, one_line
from everymask.formats.format import ImagesMode
from everymask.images.decoding import ImageLimits, decode_image
from everymask.images.files import read_labelled_bytes
from everymask.labels.rows import ImageRow

_JPEG_QUALITY = 95
_ORIENTATION_TAG, _UPRIGHT = 0x0112, 1


class PictureFiles:
    """Puts images into an export, upright.

    Masks belong to the upright picture, and many trainers ignore EXIF orientation: an image that has one is rewritten
    with its pixels turned, never linked.

    Args:
        folder: the export's.
        mode: symbolic links (local images only) or copies.
        limits: on reading an image.
        policy: which image addresses may be opened.

    Attributes:
        turned: number of rewritten images.
    """

    def __init__(self, folder: Path, mode: ImagesMode, limits: ImageLimits, policy: AddressPolicy) -> None:
        self._folder = folder
        self._mode = mode
        self._limits = limits
        self._policy = policy
        self.turned = 0

    def add(self, image: ImageRow, path: str) -> None:
        """Put one image at a path inside the folder.

        Raises:
            InputError: the image cannot be read, or is not the labelled one.
            ConfigurationError: a remote image, or one inside a file, cannot be linked.
        """
        if self._mode == "link" and image.member is not None:
            raise ConfigurationError(
                f"{image.image_id} lies inside {image.uri} and cannot be linked; use --images copy"
            )
        if self._mode == "link" and is_remote(image.uri):
            raise ConfigurationError(f"{image.uri} is not on this machine and cannot be linked; use --images copy")
        turned = self.turned
        data = self.read(image, path)
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # an attempt that was killed may have got this far
        if self._mode == "link" and self.turned == turned:
            os.symlink(image.uri.removeprefix("file://"), target)
        else:
            target.write_bytes(data)

    def read(self, image: ImageRow, name: str) -> bytes:
        """One image's upright file content, for a file called `name`.

        Raises:
            InputError: the image cannot be read, or is not the labelled one.
        """
        try:
            data = read_labelled_bytes(image.uri, image.content_sha256, self._limits, self._policy, image.member)
            turned = _is_turned(data)
            pixels = decode_image(data, self._limits) if turned else None
        except (EverymaskError, OSError) as error:
            raise InputError(
                f"{image.image_id} at {image.uri} cannot be put into the export ({one_line(error)}); nothing was "
                "written: mend that, or export without --images"
            ) from error
        if pixels is None:
            return data
        self.turned += 1
        suffix = PurePosixPath(name).suffix.lower()
        kind = (
            "JPEG" if suffix in (".jpg", ".jpeg", ".jpe", ".jfif") else Image.registered_extensions().get(suffix, "PNG")
        )
        upright = BytesIO()
        Image.fromarray(pixels).save(upright, kind, quality=_JPEG_QUALITY, subsampling=0)
        return upright.getvalue()


def _is_turned(data: bytes) -> bool:
    """Whether the EXIF orientation turns or mirrors the stored pixels."""
    try:
        with Image.open(BytesIO(data)) as picture:
            return picture.getexif().get(_ORIENTATION_TAG, _UPRIGHT) in range(2, 9)
    except Exception:  # broken EXIF beside sound pixels, as in `decode_image`
        return False
