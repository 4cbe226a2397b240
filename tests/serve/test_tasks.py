"""A prompt in shares of an image, as annotation tools give it."""

from __future__ import annotations

from everymask.labelling.clicks import ClickPrompt
from serve.tasks import ClickTask


def test_shares_become_pixels_along_their_own_axis_and_stay_inside_the_image() -> None:
    shares = ClickPrompt(((0.25, 0.5), (1.0, 1.0)), (1, 0), (0.1, 0.25, 0.75, 1.0))
    assert ClickTask(shares, 1, in_shares=True).prompt_px((40, 200)) == ClickPrompt(
        ((50.0, 20.0), (199.5, 39.5)), (1, 0), (20.0, 10.0, 150.0, 40.0)
    )
    assert ClickTask(shares, 1).prompt_px((40, 200)) == shares
