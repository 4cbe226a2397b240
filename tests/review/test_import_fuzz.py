"""No file of an annotation tool ends in anything but an import or a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.review.import_fuzz import WAYS, fuzz


def test_changed_files_are_imported_or_a_sentence(tmp_path: Path) -> None:
    ends = fuzz(tmp_path, 5, seed=1)
    assert ends.total() == 5 * (len(WAYS) + 2 * 3)
    assert min(ends["read"], ends["refused"]) > 10


@pytest.mark.slow
def test_a_thousand_changed_files_take_little_memory() -> None:
    command = [sys.executable, "-m", "tests.review.import_fuzz", "1000", "0"]
    ends = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert ends["files"] >= 1000
    assert ends["peak_mib"] < 2048
