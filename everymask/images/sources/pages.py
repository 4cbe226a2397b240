"""Pages of a TIFF, and frames of an animation (GIF, WebP, APNG): taken only where the user asks for all of them.

A page is handed on as a file of its own: of a TIFF as an unpacked TIFF with the same kind of pixels, of an animation as
a BMP of what is shown. Both have the same bytes wherever they are made, because their digest must be found again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO

import pyarrow as pa
from PIL import Image

from everymask.errors import EverymaskError, InputError
from everymask.images.decoding import DEFAULT_LIMITS, ImageLimits, open_picture, rgb_of_picture
from everymask.images.sources.options import SourceOptions
from everymask.images.sources.source import Found, Source
from everymask.images.structure import MAX_PAGES, check_structure, is_tiff, tiff_pages
from everymask.records import Member

_KEPT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "I;16B", "F")


def list_images(file: pa.NativeFile, name: str, options: SourceOptions) -> Iterator[Found]:
    """Every page. A file with one, or that is no image, is found as itself: labelling says what is wrong with it."""
    try:
        DEFAULT_LIMITS.check_bytes(file.size())
        pages = _pages(bytes(file.read()), DEFAULT_LIMITS)
    except EverymaskError:
        pages = [0]
    if len(pages) < 2:
        yield Found("")
        return
    for page in pages[:MAX_PAGES]:
        yield Found(str(page), Member("page", page=page))
    if len(pages) > MAX_PAGES:
        yield Found("", error=f"the file has more than {MAX_PAGES:,} pages; the first ones are labelled")


def _pages(data: bytes, limits: ImageLimits) -> list[int]:
    """Numbers of the pages that are pictures of their own."""
    check_structure(data, limits.check_pixels)
    if is_tiff(data):
        return tiff_pages(data)
    with open_picture(data) as picture:
        try:
            return list(range(getattr(picture, "n_frames", 1)))
        except Exception as error:  # as Pillow's decoders do
            raise InputError(f"its frames cannot be counted ({error})") from error


def read_images(file: pa.NativeFile, members: Sequence[Member], limits: ImageLimits) -> list[bytes | InputError]:
    """The pages as files of their own, in the order they were asked for; the file is read once."""
    found: list[bytes | InputError] = [InputError("the file has no such page")] * len(members)
    limits.check_bytes(file.size())
    data = bytes(file.read())
    there = frozenset(_pages(data, limits))
    with open_picture(data) as picture:
        for index in sorted(range(len(members)), key=lambda index: members[index].page or 0):
            page = members[index].page or 0
            if page in there:
                found[index] = _page(picture, page, limits)
    return found


def _page(picture: Image.Image, page: int, limits: ImageLimits) -> bytes | InputError:
    stream = BytesIO()
    try:
        picture.seek(page)
        limits.check_pixels(*picture.size)
        if picture.format != "TIFF":
            Image.fromarray(rgb_of_picture(picture)).save(stream, "BMP")
            return stream.getvalue()
        picture.load()
        plain = picture.copy() if picture.mode in _KEPT_MODES else picture.convert("RGB")
        plain.info = {}
        plain.save(stream, "TIFF")
        return stream.getvalue()
    except InputError as error:
        return error
    except Exception as error:  # Pillow's decoders raise nearly anything on hostile bytes
        return InputError(f"page {page} is truncated or corrupt ({' '.join(str(error).split())})")


PAGES = Source("pages and frames", (".tif", ".tiff", ".gif", ".webp", ".png"), ("page",), list_images, read_images)
