"""JSON with long lists of coordinates, which are put together from ready texts several times faster than by `json`."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Texts = tuple[str, ...]

PLACE = secrets.token_hex(16)
"""Stands in content for a text; nothing else contains it, because nobody can know it."""


def spliced_json(content: Any, texts: Sequence[str], ensure_ascii: bool = True) -> str:
    """JSON of `content`, in which each `PLACE` in turn is one of `texts`, which are JSON themselves."""
    pieces = json.dumps(content, ensure_ascii=ensure_ascii).split(f'"{PLACE}"')
    return "".join(itertools.chain.from_iterable(zip(pieces, [*texts, ""], strict=True)))


@lru_cache(maxsize=256)
def whole_pixels(length: int) -> Texts:
    """The numbers from 0.0 to `length` as JSON."""
    return tuple(f"{place}.0" for place in range(length + 1))


def point_lists(rings: Sequence[NDArray[np.number]], x: Texts, y: Texts) -> list[str]:
    """`[[x, y], …]` for each ring of (K, 2) whole numbers (x, y); `x` and `y` have their texts, from 0."""
    return [f"[{text[:-2]}]" for text in ring_texts(rings, _around(x, "[", ", "), _around(y, "", "], "))]


def flat_lists(rings: Sequence[NDArray[np.number]], x: Texts, y: Texts) -> list[str]:
    """`[x, y, …]` for each ring, otherwise as `point_lists`."""
    return [f"[{text[:-2]}]" for text in ring_texts(rings, _around(x, "", ", "), _around(y, "", ", "))]


def ring_texts(rings: Sequence[NDArray[np.number]], x: Texts, y: Texts) -> list[str]:
    """The texts of the corners x and y of each ring, joined; texts are ASCII."""
    if not rings:
        return []
    corners = np.concatenate(rings).astype(np.int64)
    width = 1 << (max(_longest(x), _longest(y)) - 1).bit_length()  # NumPy copies items of such sizes fastest
    texts = np.empty((len(corners), 2), dtype=f"V{width}")
    lengths = np.empty((len(corners), 2), dtype=np.int64)
    for axis, of_axis in enumerate((x, y)):
        table, sizes = _table(of_axis, width)
        texts[:, axis], lengths[:, axis] = table[corners[:, axis]], sizes[corners[:, axis]]
    text = texts.tobytes().translate(None, b"\0").decode("ascii")
    ends = np.concatenate([[0], np.cumsum(lengths[:, 0] + lengths[:, 1])])
    bounds = ends[np.cumsum([0, *map(len, rings)])].tolist()
    return [text[first:last] for first, last in itertools.pairwise(bounds)]


@lru_cache(maxsize=256)
def _longest(texts: Texts) -> int:
    return max(map(len, texts))


@lru_cache(maxsize=256)
def _table(texts: Texts, width: int) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """(N,) texts, filled up to `width` bytes with zeros, and their (N,) lengths."""
    filled = np.array([text.encode("ascii") for text in texts], dtype=f"S{width}")
    return filled.view(f"V{width}"), np.array(list(map(len, texts)))


@lru_cache(maxsize=256)
def _around(texts: Texts, before: str, behind: str) -> Texts:
    return tuple(f"{before}{text}{behind}" for text in texts)
