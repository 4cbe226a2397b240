"""The page's scripts without a page: unit tests in Node, against what Python says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from everymask.masks.rle import boxes_from_rles, encode_mask
from everymask.pictures.colours import mask_colours

NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="no Node.js here; install it to test the page's scripts alone")
def test_the_pages_modules(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    masks = []
    for height, width in ((1, 1), (7, 5), (40, 300), (300, 40)):
        mask = random.random((height, width)) < 0.3
        mask[0, 0] = True
        rle = encode_mask(mask)
        x0, y0, x1, y1 = boxes_from_rles([rle])[0].tolist()
        masks.append(
            {"rle": rle, "bbox": [x0, y0, x1 - x0, y1 - y0], "pixels": np.flatnonzero(mask).tolist()},
        )
    cases = tmp_path / "cases.json"
    cases.write_text(json.dumps({"colours": mask_colours(100).tolist(), "masks": masks}))
    tests = Path(__file__).with_name("modules.test.mjs")
    done = subprocess.run(
        [str(NODE), "--test", str(tests)], env={**os.environ, "CASES": str(cases)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
