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

from everymask.formats.flat_png import bit_png, bits_of_png, flat_png


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


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_pillow_reads_colours(values: NDArray[np.uint8]) -> None:
    with Image.open(BytesIO(flat_png(values))) as picture:
        assert picture.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(picture), values)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20))), st.integers(0, 17), st.integers(0, 3))
def test_pillow_reads_bits_as_opaque_black_wherever_they_begin(crop: NDArray[np.bool_], left: int, top: int) -> None:
    size_hw = (top + crop.shape[0] + 2, left + crop.shape[1] + 5)
    data = bit_png((left, top), crop, size_hw)
    with Image.open(BytesIO(data)) as picture:
        rgba = np.asarray(picture.convert("RGBA"))
    expected = np.zeros(size_hw, dtype=np.uint8)
    expected[top : top + crop.shape[0], left : left + crop.shape[1]] = crop * np.uint8(255)
    np.testing.assert_array_equal(rgba[:, :, 3], expected)
    assert not rgba[:, :, :3].any()
    bits = bits_of_png(data, size_hw)
    assert bits is not None
    np.testing.assert_array_equal(np.unpackbits(bits, axis=1, count=size_hw[1]) * 255, expected)
    with Image.open(BytesIO(flat_png(crop))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), crop)


def test_only_files_of_our_own_are_read_as_bits() -> None:
    crop = np.ones((5, 9), dtype=np.bool_)
    data = bit_png((3, 2), crop, (10, 20))
    assert bits_of_png(data, (10, 20)) is not None
    assert bits_of_png(data, (10, 24)) is None
    assert bits_of_png(flat_png(crop), (5, 9)) is None
    for place in range(len(data)):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert bits_of_png(damaged, (10, 20)) is None, place
    other = BytesIO()
    with Image.open(BytesIO(data)) as picture:
        picture.save(other, "PNG")
    assert bits_of_png(other.getvalue(), (10, 20)) is None
