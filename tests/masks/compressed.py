"""COCO's text form of counts, written as its definition says."""

from __future__ import annotations


def compress(counts: list[int]) -> str:
    """COCO's text form of counts: differences to the count before last, five bits a character, low bits first."""
    text = []
    for position, count in enumerate(counts):
        value = count - counts[position - 2] if position > 2 else count
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr((bits | (32 if more else 0)) + 48))
    return "".join(text)
