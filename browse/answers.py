"""The JSON that the page receives."""

from __future__ import annotations

from typing import Any

from browse.collection import Collection, Looked
from browse.layers import BEGUN, CHANGED, CONFLICT, FINISHED, STALE
from browse.view import View
from everymask.labels.correction import ACTIONS, ImageCorrection
from everymask.labels.doubt import mask_doubt
from everymask.masks.rle import boxes_from_rles, rle_areas
from everymask.redaction import redact
from everymask.review.steps import shown_masks

Json = dict[str, Any]


def card(view: View, position: int) -> Json:
    """An image in the list, as the index has it."""
    shown = view.shown(position)
    row = shown.segment.table.slice(shown.row, 1)
    values = {name: row[name][0].as_py() for name in ("image_id", "error", "width", "height", "coverage", "doubt")}
    correction = view.correction(position)
    flags = correction.flags if correction else 0
    return {
        "id": values["image_id"],
        "error": redact(values["error"]) if values["error"] else None,
        "width": values["width"],
        "height": values["height"],
        "coverage": round(values["coverage"], 4),
        "doubt": round(values["doubt"], 4),
        "masks": int(shown.segment.bounds[shown.row + 1] - shown.segment.bounds[shown.row]),
        "signature": view.signature(position),
        "picture": (row["content_sha256"][0].as_py() or "")[:16],
        "seen": [correction.entry.entry_id] if correction else [],
        "corrected": {
            "state": "stale" if flags & STALE else "finished" if flags & FINISHED else "begun" if flags & BEGUN else "",
            "changed": bool(flags & CHANGED),
            "conflict": bool(flags & CONFLICT),
            "by": correction.entry.annotator,
        }
        if correction
        else None,
    }


def detail(looked: Looked) -> Json:
    """One image with its masks."""
    labels, row = looked.labels, looked.row
    by_id = {mask.mask_id: mask for mask in labels.masks} if labels else {}
    by_id |= {mask.mask_id: mask for mask in (row.labels.masks if row.labels else ()) if mask.mask_id not in by_id}
    judged = shown_masks(row, looked.heads) if labels else ()
    boxes = boxes_from_rles([mask.rle for mask in judged]).tolist()
    areas = rle_areas([mask.rle for mask in judged]).tolist()
    masks: list[Json] = []
    for one, (x0, y0, x1, y1), area in zip(judged, boxes, areas, strict=True):
        known = by_id.get(one.mask_id)
        masks.append(
            {
                "id": one.mask_id,
                "rle": one.rle,
                "action": one.action,
                "class_id": one.class_id,
                "class_name": one.class_name,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": area,
                "score": round(known.score, 4) if known else None,
                "doubt": round(mask_doubt(known), 4) if known else None,
            }
        )
    return {
        **card(looked.view, looked.position),
        "uri": redact(row.uri),
        "size": list(labels.size_hw) if labels else None,
        "seen": [head.entry_id for head in looked.heads],
        "masks": masks,
        "presence": None if labels is None or labels.presence is None else [round(one, 4) for one in labels.presence],
        "is_stale": looked.is_stale,
        "history": [told(entry) for entry in looked.entries],
        "heads": [told(entry) for entry in looked.heads],
    }


def told(entry: ImageCorrection) -> Json:
    """An entry of the log in short."""
    return {
        "entry": entry.entry_id,
        "by": entry.annotator,
        "at": entry.corrected_at or entry.imported_at,
        "tool": entry.tool,
        "undo": entry.undoes is not None,
        "counts": {action: count for action in ACTIONS if (count := entry.count(action))},
    }


def store_facts(collection: Collection, annotator: str, can_click: bool) -> Json:
    """The contents of the page's head and its filters."""
    view, reading = collection.view, collection.reading
    return {
        "store": redact(collection.store.uri),
        "totals": view.totals(),
        "classes": [{"id": class_id, "name": name} for name, class_id in collection.classes().items()],
        "splits": view.split_names,
        "reading": None if reading is None else list(reading),
        "problems": [redact(problem) for problem in (collection.trouble, *collection.problems.values()) if problem],
        "annotator": annotator,
        "can_click": can_click,
        "epoch": collection.epoch,
        "corrections": view.corrections,
    }
