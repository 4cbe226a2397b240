"""Polygons are filled as pycocotools fills them, whatever their corners."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from everymask.masks.checked import fill_polygons
from everymask.masks.column_runs import ColumnRuns
from everymask.masks.edge_polygons import fill_edge_polygons
from everymask.masks.polygons import joined_polygons
from everymask.masks.rle import encode_masks
from tests.masks.strategies import mask_stacks

Size = tuple[int, int]
Rings = list[NDArray[np.float64]]


@st.composite
def polygons(draw: st.DrawFn) -> tuple[Size, list[Rings]]:
    """Rings of up to three masks: corners on pixels' corners or anywhere, some of them outside the image."""
    height, width = draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    whole = st.integers(-height - width, 2 * (height + width)).map(float)
    reach = st.floats(-1.0, 2.0, width=32)
    ring = st.one_of(
        hnp.arrays(np.float64, st.tuples(st.integers(0, 8), st.just(2)), elements=whole),
        hnp.arrays(np.float64, st.tuples(st.integers(0, 8), st.just(2)), elements=reach).map(
            lambda share: share * [width, height]
        ),
    )
    inside = ring.map(lambda corners: corners.clip([-width, -height], [2 * width, 2 * height]))
    return (height, width), draw(st.lists(st.lists(inside, max_size=3), max_size=3))


@given(polygons())
def test_any_polygons_are_filled_as_by_pycocotools(case: tuple[Size, list[Rings]]) -> None:
    size_hw, of_masks = case
    expected = [fill_polygons([ring.ravel().tolist() for ring in rings], size_hw) for rings in of_masks]
    assert fill_edge_polygons(of_masks, size_hw) == expected


@given(mask_stacks(max_side=12))
def test_outlines_fill_to_their_masks(stack: NDArray[np.bool_]) -> None:
    size_hw = stack.shape[1:]
    rles = encode_masks(stack)
    assert fill_edge_polygons(joined_polygons(ColumnRuns.of_rles(rles, size_hw), len(rles)), size_hw) == rles
