"""Image files wherever they are: their bytes, looked at before they are read."""

from __future__ import annotations

import pyarrow.fs as pafs

from everymask.errors import InputError
from everymask.files.storage import resolve
from everymask.images.decoding import ImageLimits


def read_bytes(uri: str, limits: ImageLimits) -> bytes:
    """The bytes of one file; its size is looked at first.

    Raises:
        InputError: missing, not a file, or empty.
        ImageTooLargeError: more bytes than the limit.
        ConfigurationError: the address cannot be opened.
        OSError: it cannot be read now.
    """
    filesystem, path = resolve(uri)
    kind = filesystem.get_file_info(path).type
    if kind == pafs.FileType.NotFound:
        raise InputError("the file is not there")
    if kind == pafs.FileType.Directory:
        raise InputError("this is a folder, not a file")
    if kind == pafs.FileType.Unknown:  # reading one could wait for ever
        raise InputError("this is no file but a pipe, a socket or a device")
    with filesystem.open_input_file(path) as file:
        limits.check_bytes(file.size())
        return bytes(file.read())
