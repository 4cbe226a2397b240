"""The settings behind labels, and the mask ids derived from them.

The same settings give the same mask of the same file the same id, in a job, a service or a program.
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
    """Hex sha256 of settings, ignoring a run's own (`input`, `limits`) and the order of keys."""
    chosen = {name: value for name, value in settings.items() if name not in _OF_THE_RUN}
    return hashlib.sha256(json.dumps(_canonical(chosen), sort_keys=True).encode()).hexdigest()


def with_mask_ids(labels: ImageLabels, content_sha256: str | None, settings_sha256: str) -> ImageLabels:
    """Labels whose masks have ids; existing ids stay.

    An id is a digest of the file, the settings, the mask and its class, and, for a mask repeated in one image, of the
    repetition, so ids within an image always differ.

    `content_sha256` is the image file's hex digest, None if unknown; `settings_sha256` is from `settings_digest`.
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
    """Make equal numbers such as 0 and 0.0 equal settings."""
    if isinstance(value, Mapping):
        return {name: _canonical(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
