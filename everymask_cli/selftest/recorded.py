"""The recorded answers of `nano`, which has no other publisher.

They are in fp32, in which all processors agree: in bf16 they round differently, and cut other cells.

python -m everymask_cli.selftest.recorded      records them anew, for new weights
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from everymask.backbone.models import PrecisionSetting
from everymask_cli.selftest.ours import answer
from everymask_cli.selftest.pictures import installed_pictures, save_pictures
from everymask_cli.selftest.task import Answers, Task

FILE = Path(__file__).with_name("nano.json")
PRECISION: PrecisionSetting = "fp32"
_POINTS_PER_SIDE = 8


def recorded_answers() -> Answers:
    """Read them. Their seconds are those of the machine that recorded them."""
    return replace(Answers.read(FILE), code="recorded answers")


def record() -> None:
    """Write them."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures.npz"
        save_pictures(installed_pictures(large=False), pictures)
        task = Task("nano", "", False, "cpu", str(pictures), _POINTS_PER_SIDE, None, str(FILE), precision=PRECISION)
        answer(task).write(FILE)


if __name__ == "__main__":
    record()
