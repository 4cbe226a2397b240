"""The review queue as one self-contained HTML page, worst images first."""

from __future__ import annotations

import shlex
from html import escape

import numpy as np
from numpy.typing import NDArray

from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.labels.doubt import mask_doubt
from everymask.labels.lookup import find_images
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore
from everymask.pictures.embedded import data_uri
from everymask.pictures.html_page import html_page
from everymask.pictures.labelled import labelled_pixels
from everymask.pictures.overlay import overlay
from everymask.redaction import redact
from everymask.review.queue import Queue, QueuedImage
from everymask.wording import counted

_THUMBNAIL_SIDE = 420
_MAX_PICTURES = 300
_MAX_MASKS_NAMED = 3


def queue_page(
    store: LabelStore, queue: Queue, limits: ImageLimits, policy: AddressPolicy, queue_file: str = "queue.json"
) -> str:
    """A page with a masked thumbnail and the doubts of each of the first 300 images, and the command to correct them.

    `queue_file` is where the queue is kept.
    """
    shown = queue.images[:_MAX_PICTURES]
    rows = find_images(store, [image.image_id for image in shown])
    cards = "\n".join(
        _card(place, image, rows[image.image_id], limits, policy) for place, image in enumerate(shown, start=1)
    )
    control = sum(image.chosen == "random" for image in queue.images)
    more = f" The first {_MAX_PICTURES:,} are shown." if len(queue.images) > _MAX_PICTURES else ""
    lead = (
        f"{len(queue.images):,} of {counted(queue.candidates, 'image')}, the most doubtful first. Drawn at random, to "
        f"tell whether doubt finds more than chance: {control:,}.{more}"
    )
    command = f"everymask browse {shlex.quote(redact(store.uri))} --queue {shlex.quote(queue_file)}"
    how = f'<p class="lead">All of them, to be corrected: <code>{escape(command)}</code></p>'
    body = f'<p class="lead">{escape(lead)}</p>\n{how}\n<ol>\n{cards}\n</ol>'
    return html_page(f"Review queue of {store.uri}", body, style=_STYLE, max_width_px=1100)


def _card(place: int, queued: QueuedImage, image: ImageRow, limits: ImageLimits, policy: AddressPolicy) -> str:
    picture = _picture(image, limits, policy)
    drawn = (
        f'<img loading="lazy" src="{data_uri(picture)}" alt="masks of {escape(queued.image_id)}">'
        if picture is not None
        else '<p class="gone">the image is not where it was</p>'
    )
    missed = "" if queued.missed is None else f"<span>{queued.missed:.1f} probably missing</span>"
    worst = f"<span>worst mask {queued.largest:.2f}</span> <span>mean {queued.mean:.2f}</span>" if queued.masks else ""
    control = '<span class="control">drawn at random</span>' if queued.chosen == "random" else ""
    return f"""<li>
<div class="place">{place}</div>
<div class="picture">{drawn}</div>
<div class="facts"><b>{escape(queued.image_id)}</b>
<div class="bar" role="img" aria-label="doubt {queued.doubt:.2f}"><i style="width:{queued.doubt:.0%}"></i></div>
<span>doubt {queued.doubt:.2f}</span> {worst} {missed}
<span>{counted(queued.masks, "mask")}</span> <span>{queued.coverage:.0%} covered</span>
{control}
{_worst_masks(image)}</div>
</li>"""


def _picture(image: ImageRow, limits: ImageLimits, policy: AddressPolicy) -> NDArray[np.uint8] | None:
    pixels = labelled_pixels(image, limits, policy)
    if pixels is None or image.labels is None:
        return None
    return overlay(pixels, image.labels, max_side=_THUMBNAIL_SIDE)


def _worst_masks(image: ImageRow) -> str:
    assert image.labels is not None
    worst = sorted(image.labels.masks, key=mask_doubt, reverse=True)[:_MAX_MASKS_NAMED]
    named = [f"{escape(mask.class_name or 'entity')} {mask_doubt(mask):.2f}" for mask in worst]
    return f'<p class="masks">most doubtful: {", ".join(named)}</p>' if named else '<p class="masks">no mask found</p>'


_STYLE = """
.lead { color: var(--soft); margin: 0 0 1.25rem; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: .75rem; }
li { display: grid; grid-template-columns: 2.2rem minmax(8rem, 15rem) 1fr; gap: .9rem; align-items: start;
  background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: .7rem; }
.place { color: var(--soft); font-variant-numeric: tabular-nums; text-align: right; }
.picture img { display: block; max-width: 100%; max-height: 16rem; margin: 0 auto; border-radius: .35rem; }
.facts b { display: block; overflow-wrap: anywhere; }
.facts span { color: var(--soft); font-size: .9rem; margin-right: .7rem; white-space: nowrap; }
.facts .control { color: inherit; border: 1px solid var(--line); border-radius: 1rem; padding: 0 .6rem; }
.bar { height: .5rem; max-width: 22rem; margin: .35rem 0; background: var(--line); border-radius: .25rem; }
.bar i { display: block; height: 100%; background: var(--second); border-radius: .25rem; }
.masks, .gone { margin: .3rem 0 0; font-size: .9rem; color: var(--soft); }
@media (max-width: 560px) { li { grid-template-columns: 1.6rem 1fr; } .facts { grid-column: 1 / -1; } }
"""
