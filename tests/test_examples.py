"""Every name that `import everymask` offers has an example in its docstring, and the examples are true."""

from __future__ import annotations

import doctest
import inspect
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import everymask
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.labelled import labelled_masks
from everymask.masks.rle import encode_masks
from everymask.records import ImageLabels

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "images" / "coffee.jpg"
SIZE_HW = (120, 180)
NAMES = sorted(set(everymask.__all__) - {"__version__"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples find in their folder."""
    made = tmp_path_factory.mktemp("examples")
    (made / "photos" / "deep").mkdir(parents=True)
    with Image.open(EXAMPLE) as image:
        for place in (made, made / "photos" / "deep"):
            image.resize(SIZE_HW[::-1]).save(place / "photo.jpg")
    (made / "photos" / "broken.jpg").write_bytes(b"no picture")
    (made / "shapes").mkdir()
    for number in range(4):
        for name in ("disc", "square"):
            picture = Image.new("RGB", (96, 96), (30 + 20 * number, 90, 120))
            corners = (20 + number, 20, 70 + 2 * number, 70 + number)
            draw = ImageDraw.Draw(picture)
            (draw.ellipse if name == "disc" else draw.rectangle)(corners, fill=(220, 200 - 10 * number, 60))
            picture.save(made / "shapes" / f"{name}-{number}.png")
    masks = np.zeros((2, *SIZE_HW), dtype=bool)
    masks[0, :, :45] = masks[1, :, 45:90] = True
    found = labelled_masks(
        encode_masks(masks),
        predicted_iou=[0.9, 0.8],
        stability_score=[1, 1],
        point_coords=[(0, 0), (50, 0)],
        score=[0.9, 0.8],
    )
    row = ImageRow("photo.jpg", str(made / "photo.jpg"), ImageLabels(SIZE_HW, tuple(found), 0.5))
    LabelStore(str(made / "labels")).write_part(to_table([row]), {})
    return made


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_public_name_is_true(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    example = doctest.DocTestParser().get_doctest(
        getattr(everymask, name).__doc__, {"everymask": everymask}, name, None, None
    )
    assert example.examples, f"everymask.{name} has no example"
    assert "\nExamples:\n" in (inspect.getdoc(getattr(everymask, name)) or ""), "the site takes it for prose"
    said = io.StringIO()
    failures, _ = doctest.DocTestRunner().run(example, out=said.write)
    assert not failures, said.getvalue()
