"""What makes labels what they are, and the ids of masks that follow from it.

The same settings give a mask of the same file the same id, whether a job, a service or a program found it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from everymask.records import ImageLabels, Rle

# What is labelled, and what is refused, is no part of how a mask is made.
_OF_THE_RUN = frozenset({"input", "limits"})
_ID_DIGITS = 24


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Hex sha256 of settings, with or without those of a run (`input`, `limits`), in any order of keys."""
    chosen = {name: value for name, value in settings.items() if name not in _OF_THE_RUN}
    return hashlib.sha256(json.dumps(_canonical(chosen), sort_keys=True).encode()).hexdigest()


def with_mask_ids(labels: ImageLabels, content_sha256: str | None, settings_sha256: str) -> ImageLabels:
    """Labels whose masks have ids; those a mask already has stay.

    An id is a digest of the file, the settings, the mask and its class. Should one image hold the same mask twice, the
    repetition counts, too, so that ids within an image always differ.

    Args:
        labels: one image's labels.
        content_sha256: hex digest of the image file; None where it is not known.
        settings_sha256: `settings_digest` of what made the labels.
    """
    if all(mask.mask_id is not None for mask in labels.masks):
        return labels
    seen: dict[str, int] = {}
    masks = []
    for mask in labels.masks:
        content = _mask_digest(content_sha256, settings_sha256, mask.rle, mask.class_id, mask.class_name)
        repetition = seen.get(content, 0)
        seen[content] = repetition + 1
        name = content if not repetition else hashlib.sha256(f"{content} {repetition}".encode()).hexdigest()
        masks.append(mask if mask.mask_id is not None else replace(mask, mask_id=name[:_ID_DIGITS]))
    return replace(labels, masks=tuple(masks))


def _mask_digest(
    content_sha256: str | None, settings_sha256: str, rle: Rle, class_id: int | None, class_name: str | None
) -> str:
    parts = [content_sha256 or None, settings_sha256, list(rle["size"]), rle["counts"], class_id, class_name]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """0 and 0.0 are one setting, whichever a caller wrote."""
    if isinstance(value, Mapping):
        return {name: _canonical(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
