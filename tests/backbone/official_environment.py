"""Environments for publishers' packages whose needs contradict ours, the rest from this one; and their pictures."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everymask.backbone.weights import cache_directory

SIZES = {"square": (96, 96), "wide": (60, 180), "tall": (180, 60), "odd": (97, 131)}
"""(height, width) in pixels."""


def official_python(variable: str, folder_name: str, steps: Sequence[Sequence[str]], **environment: str) -> Path:
    """The interpreter of an environment, which is made where it is missing.

    Args:
        variable: an environment variable that may name its folder.
        folder_name: its folder in the cache directory otherwise.
        steps: packages that are installed together, without what they depend on.
        environment: variables that pip sees.
    """
    folder = Path(os.environ.get(variable) or cache_directory() / folder_name)
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
        (Path(paths["purelib"]) / "shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    # Without isolation, what builds the others must be there before they are asked for.
    for packages in (("setuptools", "wheel"), *steps):
        subprocess.run([*install, *packages], check=True, env={**os.environ, **environment})
    return python


def picture(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Coloured waves with noise: something between a photograph and nothing."""
    generator = np.random.default_rng(sum(size_hw))
    ys, xs = np.mgrid[: size_hw[0], : size_hw[1]]
    waves = 128 + 100 * np.sin(xs[..., None] / [9, 15, 23] + ys[..., None] / [17, 11, 29])
    noisy: NDArray[np.uint8] = np.clip(waves + generator.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)
    return noisy
