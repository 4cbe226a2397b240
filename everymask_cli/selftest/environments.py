"""Environments for packages whose needs contradict ours; all else they have from this one."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

from everymask.backbone.weights import cache_directory
from everymask.errors import ConfigurationError


def python_with(variable: str, folder_name: str, steps: Sequence[Sequence[str]], environment: dict[str, str]) -> Path:
    """The interpreter of an environment, which is made where it is missing.

    Args:
        variable: an environment variable that may name its folder.
        folder_name: its folder in the cache directory otherwise.
        steps: packages that are installed together, without what they depend on.
        environment: variables that pip sees beside this process's.

    Raises:
        ConfigurationError: a package cannot be installed.
    """
    folder = Path(os.environ.get(variable) or cache_directory() / folder_name)
    python, complete = folder / "bin" / "python", folder / "complete"
    if complete.exists():
        return python
    if not python.exists():
        venv.create(folder, with_pip=True)
        paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
        (Path(paths["purelib"]) / "shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    # Without isolation, what builds the others must be there before they are asked for.
    for packages in (("setuptools", "wheel"), *steps):
        try:
            subprocess.run([*install, *packages], check=True, env={**os.environ, **environment})
        except subprocess.CalledProcessError as error:
            raise ConfigurationError(
                f"{', '.join(packages)} cannot be installed in {folder} (pip says why above); let pip reach its index, "
                f"or name an environment that has them in {variable}"
            ) from error
    complete.touch()
    return python
