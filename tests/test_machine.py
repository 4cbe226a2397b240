"""What a machine lacks is said before the slow tests, and counted after them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.machine import EVERY_TOOL, SLOW, announced

REPOSITORY = Path(__file__).resolve().parent.parent


def test_missing_tools_are_announced_with_what_installs_them_and_counted(tmp_path: Path) -> None:
    (tmp_path / "test_reader.py").write_text(
        "import pytest\n"
        "from tests.machine import READERS, skip_without\n"
        "pytestmark = pytest.mark.slow\n"
        "@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_reading(number): skip_without(READERS)\n"
        "def test_of_another_machine(): pytest.skip('no GPU')\n"
    )
    environment = {"PATH": str(tmp_path), "EVERYMASK_READERS": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # importing them takes seconds
    command = [sys.executable, "-m", "pytest", "--rootdir", str(tmp_path), "-p", "tests.conftest", "-rs", "-m", "slow"]
    output = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
    head = output.partition("collected")[0]
    assert "will be skipped for want of debootstrap, iproute2 or util-linux: the container image" in head
    assert "will be skipped for want of readers of exports: " in head
    assert "will be skipped for want of Slurm: " in head
    assert head.count("to run them, as root: make slow-tools") == 1
    assert "3 skipped" in output
    assert "2 tests did not run for want of a tool" in output


def test_every_command_that_is_named_is_a_target() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    (everything,) = re.findall(rf"^{EVERY_TOOL.removeprefix('make ')}:(.*?)##", makefile, re.MULTILINE)
    for tool in SLOW:
        target = tool.command.removeprefix("make ")
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        assert target in everything.split()


def test_nothing_is_announced_where_all_is_there() -> None:
    assert announced(()) == []
