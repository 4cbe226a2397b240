"""How a command ends."""

from __future__ import annotations

import subprocess
import sys

from data_jobs.runtime.exit_codes import UNREAD

PRINTS_MUCH = """
import sys
from data_jobs.runtime.exit_codes import exit_code
sys.exit(exit_code(lambda: print("x" * 10**6) or 0, "nothing"))
"""


def test_a_reader_who_has_enough_is_no_error_of_ours() -> None:
    """As `everymask doctor --json | head -c 20`."""
    process = subprocess.Popen([sys.executable, "-c", PRINTS_MUCH], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == UNREAD
