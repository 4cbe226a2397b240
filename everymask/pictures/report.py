"""A self-contained HTML page about a run, pictures included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from everymask.labels.rows import ImageRow
from everymask.pictures.embedded import data_uri
from everymask.pictures.html_page import facts_list, html_page
from everymask.wording import counted


@dataclass(frozen=True)
class ReportItem:
    """One labelled image of the page.

    Attributes:
        image: its row.
        picture: (h, w, 3) uint8 RGB, small.
        overlay: the same with masks.
    """

    image: ImageRow
    picture: NDArray[np.uint8]
    overlay: NDArray[np.uint8]


def html_report(
    title: str,
    facts: Sequence[tuple[str, str]],
    items: Sequence[ReportItem],
    failures: Sequence[ImageRow],
    note: str = "",
    command: str = "",
) -> str:
    """The page.

    Args:
        facts: (name, value) about the whole run.
        items: labelled images, in order.
        failures: images that have an error in place of labels.
        note: a sentence on what is left out.
        command: what to type to see all images.
    """
    cards = "\n".join(_card(item) for item in items)
    body = [
        facts_list(facts),
        '<p class="hint">Click or tap a picture to hide and show its masks.</p>',
        f'<p class="note">{escape(note)}</p>' if note else "",
        f'<p class="note">All images, to filter and to correct: <code>{escape(command)}</code></p>' if command else "",
        f'<div class="grid">\n{cards or "<p>No image was labelled.</p>"}\n</div>',
        _failures(failures),
    ]
    return html_page(title, "\n".join(body), style=_STYLE, max_width_px=1500)


def _card(item: ReportItem) -> str:
    labels = item.image.labels
    assert labels is not None
    count = len(labels.masks)
    height, width = labels.size_hw
    name = escape(item.image.image_id)
    return f"""<figure>
<label class="picture" style="aspect-ratio:{item.picture.shape[1]}/{item.picture.shape[0]}">
<input type="checkbox" aria-label="Hide the masks of {name}">
<img loading="lazy" src="{data_uri(item.picture)}" alt="{name}">
<img loading="lazy" class="masks" src="{data_uri(item.overlay)}" alt="the masks of {name}">
</label>
<figcaption><b>{name}</b>
<span>{counted(count, "mask")}</span><span>{labels.coverage:.0%} covered</span>\
<span>{item.image.seconds:.2f} s</span><span>{width} x {height}</span>{_class_names(item.image)}</figcaption>
</figure>"""


def _class_names(image: ImageRow) -> str:
    assert image.labels is not None
    names = sorted({mask.class_name for mask in image.labels.masks if mask.class_name is not None})
    return f'<span class="classes">{escape(", ".join(names))}</span>' if names else ""


def _failures(failures: Sequence[ImageRow]) -> str:
    if not failures:
        return ""
    rows = "\n".join(
        f"<tr><td>{escape(image.image_id)}</td><td>{escape(image.error or '')}</td></tr>" for image in failures
    )
    return f"<h2>Not labelled</h2>\n<table><tr><th>image</th><th>why</th></tr>\n{rows}</table>"


_STYLE = """
.hint, .note { color: var(--soft); font-size: .9rem; margin: 0 0 1rem; }
.grid { columns: 22rem; column-gap: 1rem; }
figure { break-inside: avoid; margin: 0 0 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .7rem; overflow: hidden; }
.picture { display: block; position: relative; cursor: pointer; width: 100%; }
.picture img { position: absolute; inset: 0; width: 100%; height: 100%; }
.picture input { position: absolute; opacity: 0; }
.picture input:checked ~ .masks { visibility: hidden; }
.picture input:focus-visible ~ img { outline: 3px solid #3b82f6; outline-offset: -3px; }
figcaption { padding: .55rem .8rem .7rem; font-size: .9rem; display: flex; flex-wrap: wrap; gap: .1rem .9rem; }
figcaption b { flex-basis: 100%; overflow-wrap: anywhere; }
figcaption span { color: var(--soft); }
figcaption .classes { color: inherit; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
td:first-child { font-weight: 600; min-width: 7rem; }
"""
