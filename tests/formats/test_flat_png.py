"""Label maps as PNG files, read by Pillow."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from everymask.formats.flat_png import flat_png


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint8, "L"), (np.uint16, "I;16")])
def test_pillow_reads_the_values_in_their_depth(dtype: type, mode: str) -> None:
    @given(hnp.arrays(dtype, st.tuples(st.integers(1, 9), st.integers(1, 9))))
    def check(values: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        with Image.open(BytesIO(flat_png(values))) as picture:
            assert (picture.format, picture.mode) == ("PNG", mode)
            np.testing.assert_array_equal(np.asarray(picture), values)

    check()


def test_flat_pictures_are_small() -> None:
    values = np.zeros((480, 640), dtype=np.uint8)
    values[100:300, 200:500] = 7
    assert len(flat_png(values)) < 3000
