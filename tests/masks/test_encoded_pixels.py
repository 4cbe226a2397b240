"""Run lengths from strangers, looked at before pycocotools reads them."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from everymask.masks.rle import encoded_pixels
from tests.masks.compressed import compress


def pixels_by_reading(text: str) -> int:
    """The same, one character at a time, as cocoapi's `rleFrString` reads; -1 for what it must not be given."""
    runs: list[int] = []
    number = digits = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or digits == 8:
            return -1
        number |= (bits & 31) << (5 * digits)
        digits += 1
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << (5 * digits)
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number = digits = 0
    return sum(runs) if runs and not digits and min(runs) >= 0 else -1


sound = st.lists(st.integers(0, 2**33), min_size=1, max_size=8).map(compress)
wild = st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=20)


@given(st.lists(sound | wild, max_size=6))
@example(["", compress([3, 4]), ""])
@example([compress([2**33]), "P" * 7 + "1", "P" * 8 + "1", compress([5])])
@example(["o" * 9, compress([1, 2, 3, 4, 5])])
@example([compress([7, 1, 1, 9, 2, 2]), "o", "\x2f1", "p1", "é", compress([0, 6])])
def test_pixels_are_those_that_a_reader_meets(texts: list[str]) -> None:
    assert encoded_pixels(texts).tolist() == [pixels_by_reading(text) for text in texts]


def test_no_encoding_has_no_pixels() -> None:
    assert encoded_pixels([]).tolist() == []
    assert encoded_pixels([compress([3, 4, 5])]).tolist() == [12]
