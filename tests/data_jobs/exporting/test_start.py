"""An export on this machine starts without what only a cluster needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.formats.exporting import picture_store

SCRIPT = """
import sys
from contextlib import suppress
from everymask_cli.main import main

for words in (["export", "--help"], ["export", "--labels", sys.argv[1], "--output", sys.argv[2], "--processes", "2"]):
    with suppress(SystemExit):
        assert main(words) == 0
    print("loaded:", sorted({"ray", "torch"} & set(sys.modules)))
"""


def test_help_and_a_local_export_load_neither_ray_nor_a_model(tmp_path: Path) -> None:
    picture_store(tmp_path, 6, 2)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "store"), str(tmp_path / "out.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("loaded:")] == ["loaded: []"] * 2
    assert (tmp_path / "out.json").is_file()
