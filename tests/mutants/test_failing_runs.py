"""`make mutants` says so where mutmut could not run the tests, instead of counting what was never tried."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mutants import __main__ as mutants

TRIED = "x_encode__mutmut_1"
MADE = f"""echo '{{"exit_code_by_key": {{"{TRIED}": '$CODE'}}}}' > mutants/rle.py.meta"""
PREPARED = f"[ $1 = {TRIED} ] || {{ CODE=null; {MADE}; echo 'nothing matches'; exit 1; }}"
UNREADABLE = "echo 'E   ModuleNotFoundError'; echo 'failed to collect stats. runner returned 2'; exit 1"


@pytest.fixture
def count_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Count `masks` with a shell script in the place of `python -m mutmut run --max-children 1 NAME …`."""
    monkeypatch.setattr(mutants, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(sys, "argv", ["mutants", "masks", "--sample", "1", "--jobs", "1"])

    def count(script: str) -> None:
        stand_in = tmp_path / "python"
        stand_in.write_text(f"#!/bin/sh\nshift 5\n{script}\n")
        stand_in.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(stand_in))
        mutants.main()

    return count


def test_a_run_whose_tests_cannot_be_timed_ends_with_mutmuts_last_lines(count_masks: Callable[[str], None]) -> None:
    with pytest.raises(SystemExit, match=r"(?s)ModuleNotFoundError.*failed to collect stats\. runner returned 2"):
        count_masks(f"[ $1 = {TRIED} ] && CODE=1 && {MADE} && exit 0\nCODE=null; {MADE}; {UNREADABLE}")


def test_a_run_that_breaks_off_among_the_changes_counts_nothing(
    count_masks: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="a worker is gone"):
        count_masks(f"{PREPARED}\nCODE=1; {MADE}; echo 'a worker is gone'; exit 1")
    assert "killed" not in capsys.readouterr().out


def test_a_run_that_ends_well_is_counted(
    count_masks: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    count_masks(f"{PREPARED}\nCODE=1; {MADE}")
    assert "1 tried, 1 killed" in capsys.readouterr().out
