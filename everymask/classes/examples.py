"""Boxes around objects of an image, as examples of what is looked for in it."""

from __future__ import annotations

from dataclasses import dataclass

from everymask.errors import InputError
from everymask.wording import counted

ALIKE = ("example",)
"""The class of what is like examples without a name."""
MAX_EXAMPLES = 32
"""Most boxes of a prompt (our choice)."""


@dataclass(frozen=True)
class ExamplePrompt:
    """Boxes that show what is meant, and what is not.

    Attributes:
        boxes_xyxy: half-open boxes in original pixels.
        shown: one for each box: whether its object is meant; at least one is.
    """

    boxes_xyxy: tuple[tuple[float, float, float, float], ...]
    shown: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.boxes_xyxy) != len(self.shown):
            boxes = counted(len(self.boxes_xyxy), "box", "boxes")
            raise InputError(f"every box needs a label: got {boxes} and {counted(len(self.shown), 'label')}")
        if not any(self.shown):
            raise InputError("no box is an example of what is meant; give at least one with label 1")
        if len(self.shown) > MAX_EXAMPLES:
            raise InputError(f"the prompt has {len(self.shown)} boxes; at most {MAX_EXAMPLES} are taken")
        for x0, y0, x1, y1 in self.boxes_xyxy:
            if not (x0 < x1 and y0 < y1):
                raise InputError(
                    f"the box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is empty; give (x0, y0, x1, y1) with x0 < x1 and y0 < y1"
                )

    def check_inside(self, size_hw: tuple[int, int]) -> None:
        """InputError, naming the box, if one reaches outside an image of (height, width) pixels."""
        height, width = size_hw
        for x0, y0, x1, y1 in self.boxes_xyxy:
            if not (min(x0, y0) >= 0 and x1 <= width and y1 <= height):
                raise InputError(
                    f"the box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) reaches outside the image of {width} x {height} pixels"
                )
