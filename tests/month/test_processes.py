"""A process that outlives its command is found, wherever it has gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.month.machine import wait_until
from tests.month.processes import descendants, running_in

_DAEMON = """
import os, signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.close(1)
        signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_daemon_that_has_cut_all_ties_is_found() -> None:
    with descendants() as started:
        assert started.running() == []
        said = subprocess.check_output([sys.executable, "-c", _DAEMON], text=True)
        (found,) = started.running()
        assert "signal.pause()" in found
        os.kill(int(said), signal.SIGKILL)
        wait_until(lambda: started.running() == [])


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_runs_in_a_group_is_found() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        (found,) = running_in(process.pid)
        assert "input()" in found
    finally:
        process.communicate(b"\n", timeout=60)
    assert running_in(process.pid) == []
