"""Where this machine has its Python packages from, told to the build's own pip: as a secret, kept in no layer."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.cluster.image.build import Machine


def this_machine(arguments: Mapping[str, str]) -> Machine:
    """What a build may use of this machine, with pip set up as it is here."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    found = re.findall(r"^(?:global|install|:env:)\.([\w-]+)=(.*)$", listed.stdout, re.MULTILINE)
    settings = {name.lower().replace("_", "-"): ast.literal_eval(value) for name, value in found}
    environment = {f"PIP_{name.upper().replace('-', '_')}": value for name, value in settings.items()}
    files = sorted({file for value in settings.values() for file in _files(value)})
    return Machine(arguments, environment, files)


def _files(value: str) -> Iterator[Path]:
    """Files and folders of this machine that a setting of pip names; of an index its folder, files lie beside it."""
    for word in value.split():
        address = word.removeprefix("file://")
        if os.path.isabs(address) and os.path.exists(address):
            yield Path(address).parent if address != word else Path(address)
