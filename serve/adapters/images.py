"""The images of labelling tools' requests: sent along, or in the folder that the operator opened."""

from __future__ import annotations

import base64
import binascii
import stat
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from everymask.images.decoding import ImageLimits
from serve.requests import invalid_request

_DATA = "data:"
_LOCAL_FILES = "/data/local-files/"
_MEDIA = "/data/"


def image_file(address: str, root: Path | None, limits: ImageLimits) -> bytes:
    """The image at an address; nothing is fetched.

    Args:
        address: a `data:` URI; or `/data/local-files/?d=PATH`, `/data/PATH` or `PATH`, all meaning PATH below `root`.
        root: the operator's folder; None if there is none.
        limits: on bytes, checked before anything is read.

    Raises:
        ServiceError: 422, another kind of address, or no such file.
        ImageTooLargeError: it has too many bytes.
        InputError: it has none.
    """
    if address.startswith(_DATA):
        data = _decoded(address)
        limits.check_bytes(len(data))
        return data
    path = _relative_path(address)
    if root is None:
        raise invalid_request(
            "the image is not in the request, and this service opens no files; send it as a data: URI, or have the "
            "operator set images_root"
        )
    return _read_below(root, path, limits)


def _decoded(address: str) -> bytes:
    head, comma, content = address.partition(",")
    if not comma or not head.endswith(";base64"):
        raise invalid_request("the image's data: URI is not base64")
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise invalid_request("the image's data: URI is not base64") from None


def _relative_path(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        raise invalid_request("the image's address cannot be read") from None
    if parts.scheme or parts.netloc:
        raise invalid_request(
            "images are not fetched from addresses; send the image as a data: URI, or keep it in the folder that the "
            "operator has named"
        )
    if parts.path == _LOCAL_FILES:
        return parse_qs(parts.query).get("d", [""])[0]
    return unquote(parts.path).removeprefix(_MEDIA)


def _read_below(root: Path, relative: str, limits: ImageLimits) -> bytes:
    missing = invalid_request(f"there is no image {relative[:200]!r} in the folder that the operator has named")
    if not relative or "\0" in relative:
        raise missing
    root = root.resolve()
    try:
        # Resolved first, so that neither `..` nor a link leads out of the folder.
        path = (root / relative).resolve()
        status = path.stat()
    except (OSError, RuntimeError):
        raise missing from None
    # Something other than a file, a pipe for one, may never end.
    if not path.is_relative_to(root) or not stat.S_ISREG(status.st_mode):
        raise missing
    limits.check_bytes(status.st_size)
    try:
        data = path.read_bytes()
    except OSError:
        raise missing from None
    limits.check_bytes(len(data))
    return data
