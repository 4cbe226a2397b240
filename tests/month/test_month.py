"""A month in small; benchmarks/month.py runs it at its size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.month.machine import machine
from tests.month.month import Month


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_month_loses_nothing(tmp_path: Path) -> None:
    with machine(tmp_path) as here:
        Month(here, images=200, seed=0, corrected=20).run()
