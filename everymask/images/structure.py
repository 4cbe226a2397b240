"""Checks an image file's claims about itself before a decoder believes them.

A file of a megabyte can make a decoder reserve gigabytes within any limit on pixels: by thousands of tags that share
the same bytes, tiles far larger than the picture, a canvas allocated on opening, or ten thousand scans over the same
pixels. Each check walks one format's structure, in linear time and without copies, and leaves everything else, damage
included, to the decoder.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from everymask.errors import ImageTooLargeError, InputError

MAX_TAG_NUMBERS = 1_000_000
"""Numbers in all tags of a TIFF or EXIF block: 100 megapixels in tiles of 16 x 16 pixels need 0.8 million."""
MAX_PAGES = 10_000
"""Of a TIFF or an animation that are looked at."""
MAX_TAGS = 10_000
"""Tags of one TIFF or EXIF block."""
MAX_SEGMENTS = 10_000
"""Segments of a JPEG before its picture ends; chunks of a PNG without pixels."""
MAX_SCANS = 200
"""Scans of a JPEG, each over all pixels; encoders write a dozen."""
MAX_TILE_PIXELS = 2048 * 2048
"""Pixels of a TIFF tile that is larger than its picture."""
MAX_JPEG2000_TILES = 10_000
"""The decoder keeps about 10 kB of settings for each tile."""
MAX_GIF_NOTES_BYTES = 2**20
"""Bytes of comments and extensions before the first frame; Pillow's time is quadratic in them."""

_SHARED_TAG_BYTES = 64 * 2**10
"""Bytes that tags may share (two resolutions, for instance) beyond the size of the file."""
_RATIONAL_WEIGHT = 10
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TEXT_TYPES = frozenset({1, 2, 6, 7})
_RATIONAL_TYPES = frozenset({5, 10})
_EXIF_POINTERS = frozenset({0x8769, 0x8825, 0xA005})
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SUBFILE_KIND, _REDUCED_OR_MASK = 254, 5
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323


def check_structure(data: bytes, check_pixels: Callable[[int, int], None]) -> None:
    """Refuse a file whose structure would cost a decoder more than its pixels and bytes explain.

    Args:
        data: a file of any format; anything but an image passes.
        check_pixels: refuses a width and height; called here only for formats that reserve memory on opening.

    Raises:
        InputError: too many or too large tags, segments, scans or comments.
        ImageTooLargeError: tiles or a canvas that are too large.
    """
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(data)
    elif is_tiff(data):
        tags = check_tags(data)
        _check_tiles(tags)
    elif data.startswith(b"GIF8"):
        _check_gif(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        _check_webp(data, check_pixels)
    elif data[4:8] == b"jP  " or data.startswith(b"\xff\x4f\xff\x51"):
        _check_jpeg2000(data)


def is_tiff(data: bytes) -> bool:
    """Whether a file is a TIFF."""
    return data[:4] in _TIFF_HEADS


def tiff_pages(data: bytes) -> list[int]:
    """Numbers, from 0, of a TIFF's directories that are pictures of their own: no small copies and no masks.

    Raises:
        InputError: the tags of one of them are too many or claim more bytes than there are.
        ImageTooLargeError: the tiles of one of them are too large.
    """
    pages = []
    for number, directory in enumerate(_directories(data)):
        tags = check_tags(data, directory)
        _check_tiles(tags)
        if not tags.get(_SUBFILE_KIND, 0) & _REDUCED_OR_MASK:
            pages.append(number)
    return pages


def _directories(data: bytes) -> Iterator[int]:
    """Where the directories of a TIFF begin; an endless chain ends where it comes back."""
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    big = data[2:4] in (b"+\0", b"\0+")
    place, head, entry = ("Q", "Q", 20) if big else ("L", "H", 12)
    position, seen = (8 if big else 4), set[int]()
    while position + struct.calcsize("=" + place) <= len(data):
        (directory,) = struct.unpack_from(order + place, data, position)
        if directory in seen or not 0 < directory <= len(data) - struct.calcsize("=" + head) or len(seen) >= MAX_PAGES:
            return
        seen.add(directory)
        yield directory
        (entries,) = struct.unpack_from(order + head, data, directory)
        position = directory + struct.calcsize("=" + head) + entries * entry


def check_tags(block: bytes, directory: int | None = None) -> dict[int, int]:
    """Refuse a TIFF or EXIF block with too many tags, or tags that claim more bytes than exist.

    Returns the first value of each whole-number tag that lies in the block, of the directory at an offset, by default
    the first.

    Raises:
        InputError: too many tags or numbers, or the same bytes claimed repeatedly.
    """
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 16:
        return {}
    big = block[2:4] in (b"+\0", b"\0+")
    (first,) = struct.unpack_from(order + ("Q" if big else "L"), block, 8 if big else 4)
    first = first if directory is None else directory
    values: dict[int, int] = {}
    waiting, seen = [first], {first}
    claimed = numbers = count_of_tags = 0
    while waiting:
        top = len(seen) == 1
        for tag, kind, count, size, place in _entries(block, waiting.pop(), order, big):
            count_of_tags += 1
            if place + size > len(block):  # the decoder finds nothing there either, and leaves the tag out
                continue
            claimed += size
            weight = 0 if kind in _TEXT_TYPES else _RATIONAL_WEIGHT if kind in _RATIONAL_TYPES else 1
            numbers += count * weight
            if count_of_tags > MAX_TAGS or numbers > MAX_TAG_NUMBERS or claimed > 2 * len(block) + _SHARED_TAG_BYTES:
                raise InputError(
                    f"its tags claim {claimed:,} bytes and {numbers:,} numbers in a block of {len(block):,} bytes; "
                    "such a file is made to exhaust memory: save the image again without them"
                )
            if kind in (3, 4, 13, 16) and count:
                letter = {3: "H", 4: "L", 13: "L", 16: "Q"}[kind]
                (value,) = struct.unpack_from(order + letter, block, place)
                if top:
                    values.setdefault(tag, value)
                if tag in _EXIF_POINTERS and value not in seen:
                    seen.add(value)
                    waiting.append(value)
    return values


def _entries(block: bytes, offset: int, order: str, big: bool) -> Iterator[tuple[int, int, int, int, int]]:
    """(tag, type, count, bytes, position) of each entry of a directory with a known type, as far as the block goes."""
    head, entry, inline = ("Q", "HHQQ", 8) if big else ("H", "HHLL", 4)
    head_size, entry_size = struct.calcsize("=" + head), struct.calcsize("=" + entry)
    if offset + head_size > len(block):
        return
    (entries,) = struct.unpack_from(order + head, block, offset)
    start = offset + head_size
    for position in range(start, min(start + entries * entry_size, len(block) - entry_size + 1), entry_size):
        tag, kind, count, place = struct.unpack_from(order + entry, block, position)
        size = count * _TYPE_BYTES.get(kind, 0)
        if kind in _TYPE_BYTES:
            yield tag, kind, count, size, place if size > inline else position + entry_size - inline


def _check_tiles(tags: dict[int, int]) -> None:
    tile = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_HEIGHT, 0)
    pixels = tags.get(_WIDTH, 0) * tags.get(_HEIGHT, 0)
    if tile[0] * tile[1] > max(MAX_TILE_PIXELS, 2 * pixels):
        raise ImageTooLargeError(
            f"its tiles of {tile[0]} x {tile[1]} pixels are far larger than the image; save it again without tiles"
        )


def _check_jpeg(data: bytes) -> None:
    exif, segments, scans = bytearray(), 0, 0
    position = 2
    # Outside the segments, FF is followed by 00 or the number of a restart.
    marker = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
    while (found := marker.search(data, position)) is not None and found[1] != b"\xd9":
        position = found.end()
        if found[1] in (b"\xd8", b"\x01"):  # no length follows
            continue
        (length,) = struct.unpack_from(">H", data, position) if position + 2 <= len(data) else (2,)
        body = position + 2
        if found[1] == b"\xe1" and data.startswith(b"Exif\0\0", body):
            exif += data[body + (6 if exif else 0) : position + length]
        elif found[1] == b"\xe2" and data.startswith(b"MPF\0", body):
            check_tags(data[body + 4 : position + length])
        segments += 1
        scans += found[1] == b"\xda"
        if segments > MAX_SEGMENTS or scans > MAX_SCANS:
            raise InputError(
                f"the JPEG has more than {MAX_SEGMENTS:,} segments or {MAX_SCANS} scans; such a file is made to "
                "exhaust time or memory: save the image again"
            )
        position += max(length, 2)
    check_tags(bytes(exif))


def _check_png(data: bytes) -> None:
    position, notes = 8, 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, position)
        notes += kind not in (b"IDAT", b"fdAT")
        if notes > MAX_SEGMENTS:
            raise InputError(f"the PNG has more than {MAX_SEGMENTS:,} chunks beside its pixels; save the image again")
        if kind == b"eXIf":
            check_tags(data[position + 8 : position + 8 + length])
        if kind == b"IEND":
            return
        position += 12 + length


def _check_gif(data: bytes) -> None:
    colours = 3 * 2 ** ((data[10] & 7) + 1) if len(data) > 10 and data[10] & 128 else 0
    start = position = 13 + colours
    while position + 2 <= len(data) and data[position] != ord(","):
        extension = data[position] == ord("!")
        position += 2 if extension else 1  # Pillow passes over stray bytes, too
        while extension and position < len(data) and data[position]:
            position += 1 + data[position]
        if position - start > MAX_GIF_NOTES_BYTES:
            raise InputError(
                f"the GIF has more than {MAX_GIF_NOTES_BYTES:,} bytes of comments before its picture; save it again"
            )
        position += extension


def _check_webp(data: bytes, check_pixels: Callable[[int, int], None]) -> None:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        check_pixels(1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"))
    elif kind == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack_from("<HH", data, 26)
        check_pixels(width & 0x3FFF, height & 0x3FFF)
    elif kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        check_pixels(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))


def _check_jpeg2000(data: bytes) -> None:
    # The codestream lies in a box among others; whatever looks like its beginning is checked.
    for start in re.finditer(rb"\xff\x4f\xff\x51", data):
        if start.end() + 36 > len(data):
            return
        right, bottom, _, _, tile_width, tile_height, tile_left, tile_top = struct.unpack_from(
            ">8L", data, start.end() + 4
        )
        if tile_width and tile_height:
            tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
            if tiles > MAX_JPEG2000_TILES:
                raise ImageTooLargeError(
                    f"the JPEG 2000 has {tiles:,} tiles, more than {MAX_JPEG2000_TILES:,}; save it with larger tiles"
                )
