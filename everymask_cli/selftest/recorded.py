"""The recorded answers of `nano`, which has no other publisher.

python -m everymask_cli.selftest.recorded      records them anew, for new weights
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from everymask_cli.selftest.ours import answer
from everymask_cli.selftest.pictures import installed_pictures, save_pictures
from everymask_cli.selftest.task import Answers, Task

FILE = Path(__file__).with_name("nano.json")
_POINTS_PER_SIDE = 8


def recorded_answers() -> Answers:
    """Read them."""
    return Answers.read(FILE)


def record() -> None:
    """Write them."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures.npz"
        save_pictures(installed_pictures(large=False), pictures)
        task = Task("nano", "", False, "cpu", str(pictures), _POINTS_PER_SIDE, None, str(FILE))
        answer(task).write(FILE)


if __name__ == "__main__":
    record()
