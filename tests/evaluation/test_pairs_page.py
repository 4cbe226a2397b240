"""Two labellings of an image stand side by side, with its picture where it can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from everymask.evaluation.pairs_page import Pair, pairs_page
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.labels.rows import ImageRow
from tests.evaluation.labels import labels
from tests.formats.shapes import sha256_of


def test_both_are_shown_and_a_lost_image_says_so(tmp_path: Path) -> None:
    Image.new("RGB", (20, 8), (90, 90, 90)).save(tmp_path / "a.png")
    mask = np.zeros((8, 20), bool)
    mask[:, :5] = True
    one, none = labels([mask], [0.9], (8, 20)), labels([], [], (8, 20))
    there = ImageRow("a<1>.png", str(tmp_path / "a.png"), one, None, sha256_of(tmp_path / "a.png"))
    gone = ImageRow("b.png", str(tmp_path / "b.png"), one, None, "0" * 64)
    pairs = [Pair(there, "IoU 0 & less", one, none), Pair(gone, "lost", one, none)]
    page = pairs_page("Worst", "annotated", "labelled", pairs, ImageLimits(), AddressPolicy(any_local_file=True))
    first, second = page.split("<li>")[1:]
    assert "<h1>Worst</h1>" in page
    assert "<b>a&lt;1&gt;.png</b> <span>IoU 0 &amp; less</span>" in first
    pictures = [part.partition('"')[0] for part in first.split('src="')[1:]]
    assert len(set(pictures)) == 2, "the mask is seen in one of them"
    assert first.index("annotated, 1 mask") < first.index("labelled, 0 masks")
    assert "not where it was" not in first
    assert "<img" not in second
    assert "the image is not where it was, or not the one that was labelled" in second
