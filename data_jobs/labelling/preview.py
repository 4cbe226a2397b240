"""Pictures of a run: a bounded sample of its images, whatever their number."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from io import BytesIO

from PIL import Image

from everymask.files.addresses import AddressPolicy
from everymask.files.location import Location
from everymask.files.storage import split_query
from everymask.images.decoding import ImageLimits
from everymask.images.resizing import shrink
from everymask.labels.corrections import corrected, read_corrections
from everymask.labels.rows import ImageRow, from_batch
from everymask.labels.store import LabelStore, PartSummary
from everymask.pictures.contact_sheet import contact_sheet
from everymask.pictures.labelled import labelled_pixels
from everymask.pictures.overlay import overlay
from everymask.pictures.report import ReportItem, html_report
from everymask.redaction import redact
from everymask.wording import counted

_MAX_SIDE = 800
_MAX_FAILURES = 200


def preview_exists(store: LabelStore) -> bool:
    return store.preview.child("index.html").kind() == "file"


def write_preview(store: LabelStore, limits: ImageLimits, count: int, policy: AddressPolicy) -> None:
    """Write preview/index.html and preview/contact_sheet.jpg for at most `count` images, sorted by id.

    Parts are named by digests, so the first parts are a random sample of a run; of a run in shards they are the first
    shard's first images.

    Raises:
        OutputError: the store is not writable.
    """
    parts = store.parts()
    summaries = [header.summary for header in store.headers(parts)]
    sample = _first(_rows(store, parts, failed=False), count)
    failing = [part for part, summary in zip(parts, summaries, strict=True) if summary.errors]
    failures = _first(_rows(store, failing, failed=True), _MAX_FAILURES)
    known = read_corrections(store)
    items = [item for image in sample if (item := _draw(corrected(image, known), limits, policy)) is not None]
    total = sum(summaries, PartSummary())
    page = html_report(
        f"Labels in {split_query(store.uri)[0]}",
        _facts(total),
        items,
        failures,
        _note(total, len(items), len(failures)),
        f"everymask browse {shlex.quote(redact(store.uri))}",
    )
    store.preview.child("index.html").write(page.encode())
    if items:
        counts = [(item.image.image_id, len(item.image.labels.masks)) for item in items if item.image.labels]
        captions = [f"{name} · {counted(count, 'mask')}" for name, count in counts]
        buffer = BytesIO()
        Image.fromarray(contact_sheet([item.overlay for item in items], captions)).save(buffer, "JPEG", quality=88)
        store.preview.child("contact_sheet.jpg").write(buffer.getvalue())


def _rows(store: LabelStore, parts: list[Location], failed: bool) -> Iterator[ImageRow]:
    for part in parts:
        for batch in store.batches_of([part], batch_size=16):
            yield from (image for image in from_batch(batch) if (image.error is not None) == failed)


def _first(images: Iterator[ImageRow], count: int) -> list[ImageRow]:
    return sorted((image for image, _ in zip(images, range(count), strict=False)), key=lambda image: image.image_id)


def _draw(image: ImageRow, limits: ImageLimits, policy: AddressPolicy) -> ReportItem | None:
    """The image and its masks, scaled down; None if the file is gone or has changed."""
    pixels = labelled_pixels(image, limits, policy)
    if pixels is None or image.labels is None:
        return None
    return ReportItem(image, shrink(pixels, _MAX_SIDE), overlay(pixels, image.labels, max_side=_MAX_SIDE))


def _facts(total: PartSummary) -> list[tuple[str, str]]:
    labelled = total.images - total.errors
    return [
        ("images", f"{total.images:,}"),
        ("masks", f"{total.masks:,}"),
        ("masks per image", f"{total.masks / labelled:.1f}" if labelled else "–"),
        ("seconds per image", f"{total.seconds / total.images:.2f}" if total.images else "–"),
        ("errors", f"{total.errors:,}"),
    ]


def _note(total: PartSummary, shown: int, failures: int) -> str:
    labelled = total.images - total.errors
    parts = []
    if shown < labelled:
        parts.append(f"Shown: {shown:,} of {counted(labelled, 'labelled image')}.")
    if failures < total.errors:
        parts.append(f"Listed: {failures:,} of {counted(total.errors, 'error')}.")
    return " ".join(parts)
