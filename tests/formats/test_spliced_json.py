"""Coordinates put together from ready texts are the JSON that `json` writes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from everymask.formats.spliced_json import PLACE, flat_lists, point_lists, spliced_json, whole_pixels

RINGS = [np.array([[0, 3], [7, 0], [7, 3]]), np.zeros((0, 2)), np.array([[2.0, 1.0]])]


def test_lists_of_corners_are_those_of_json() -> None:
    x, y = whole_pixels(7), whole_pixels(3)
    floats = [ring.astype(np.float64) for ring in RINGS]
    assert point_lists(RINGS, x, y) == [json.dumps(ring.tolist()) for ring in floats]
    assert flat_lists(RINGS, x, y) == [json.dumps(ring.ravel().tolist()) for ring in floats]
    assert point_lists([], x, y) == []


def test_texts_stand_where_their_places_were_and_each_is_used() -> None:
    content = {"a": [PLACE, "é", PLACE], "b": {"c": PLACE}}
    assert json.loads(spliced_json(content, ["1", "[2, 3]", "null"])) == {"a": [1, "é", [2, 3]], "b": {"c": None}}
    assert '"é"' in spliced_json(content, ["1", "2", "3"], ensure_ascii=False)
    with pytest.raises(ValueError, match="shorter"):
        spliced_json(content, ["1", "2"])
