"""An HTML page of the images on which labels and truth differ most, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.labels.rows import ImageRow
from everymask.pictures.embedded import data_uri
from everymask.pictures.html_page import html_page
from everymask.pictures.labelled import labelled_pixels
from everymask.pictures.overlay import overlay
from everymask.records import ImageLabels
from everymask.wording import counted

_SIDE = 480


@dataclass(frozen=True)
class Pair:
    """Two labellings of one image.

    Attributes:
        image: its row.
        said: the caption of the difference.
        left, right: the labellings, of the image's size; a class has one colour in both.
    """

    image: ImageRow
    said: str
    left: ImageLabels
    right: ImageLabels


def pairs_page(
    title: str, left: str, right: str, pairs: Sequence[Pair], limits: ImageLimits, policy: AddressPolicy
) -> str:
    """The page. An unreadable image appears without its pictures.

    Args:
        left, right: names of the two labellings.
        pairs: in the order shown.
        limits: on reading an image.
        policy: which of the store's addresses may be opened.
    """
    cards = "\n".join(_card(left, right, pair, limits, policy) for pair in pairs)
    return html_page(title, f"<ol>\n{cards}\n</ol>", style=_STYLE, max_width_px=1100)


def _card(left: str, right: str, pair: Pair, limits: ImageLimits, policy: AddressPolicy) -> str:
    image_id = pair.image.image_id
    pixels = labelled_pixels(pair.image, limits, policy)
    figures = "<p>the image is not where it was, or not the one that was labelled</p>"
    if pixels is not None:
        figures = "".join(
            f'<figure><img loading="lazy" src="{data_uri(overlay(pixels, labels, max_side=_SIDE))}" '
            f'alt="{escape(name)} of {escape(image_id)}"><figcaption>{escape(name)}, '
            f"{counted(len(labels.masks), 'mask')}</figcaption></figure>"
            for name, labels in ((left, pair.left), (right, pair.right))
        )
    return f"<li><b>{escape(image_id)}</b> <span>{escape(pair.said)}</span><div>{figures}</div></li>"


_STYLE = """
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: .75rem; }
li { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: .7rem; }
li b { overflow-wrap: anywhere; } li span, figcaption, li p { color: var(--soft); font-size: .9rem; }
li div { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .75rem; margin-top: .5rem; }
figure { margin: 0; } figure img { display: block; width: 100%; border-radius: .35rem; }
"""
