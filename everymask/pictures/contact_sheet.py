from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_MARGIN, _CAPTION_HEIGHT, _FONT_SIZE = 12, 26, 14
_PAPER, _INK = (250, 250, 248), (40, 40, 44)


def contact_sheet(
    pictures: Sequence[NDArray[np.uint8]], captions: Sequence[str], columns: int = 4, cell: int = 320
) -> NDArray[np.uint8]:
    """Lay out (H, W, 3) uint8 RGB pictures of any sizes in rows, each fitted into `cell` x `cell` pixels.

    Args:
        pictures: at least one.
        captions: one line each, shortened to fit.
        columns: most pictures in a row.

    Returns (H, W, 3) uint8 RGB; raises ValueError without pictures or without one caption for each.
    """
    if not pictures or len(pictures) != len(captions):
        raise ValueError(f"{len(pictures)} pictures and {len(captions)} captions make no contact sheet")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    pitch_x, pitch_y = cell + _MARGIN, cell + _CAPTION_HEIGHT + _MARGIN
    sheet = Image.new("RGB", (columns * pitch_x + _MARGIN, rows * pitch_y + _MARGIN), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for position, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = _MARGIN + position % columns * pitch_x
        top = _MARGIN + position // columns * pitch_y
        thumbnail = Image.fromarray(picture)
        thumbnail.thumbnail((cell, cell), Image.Resampling.LANCZOS)
        sheet.paste(thumbnail, (left + (cell - thumbnail.width) // 2, top + (cell - thumbnail.height) // 2))
        draw.text((left, top + cell + 5), _fit(caption, font, cell), fill=_INK, font=font)
    return np.asarray(sheet)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """`text`, its beginning replaced by … if it is wider than `width` pixels: a path's end tells more."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text
