"""Start the HTTP service on this machine with one of the shipped configurations, or with a file of your own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

import serve
from everymask.errors import ConfigurationError, EverymaskError

SHIPPED = Path(serve.__file__).resolve().parent / "config"


@dataclass(frozen=True)
class ServeOptions:
    """Start the HTTP service on this machine; Ctrl-C stops it."""

    config: str = "local"
    """local (the built-in model on two CPU cores), gpu, or a Serve configuration file of your own."""


def config_file(config: str) -> Path:
    """The file behind a shipped configuration's name, or the file itself.

    Raises:
        ConfigurationError: there is neither.
    """
    for candidate in (SHIPPED / f"{config}.yaml", Path(config)):
        if candidate.is_file():
            return candidate
    shipped = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.yaml")))
    raise ConfigurationError(f"there is no configuration {config}; give one of {shipped}, or a YAML file")


def main(arguments: list[str] | None = None, program: str = "everymask serve") -> int:
    """The command; returns the exit code of Ray Serve's own `serve run`."""
    options = tyro.cli(ServeOptions, args=arguments, prog=program)
    try:
        file = config_file(options.config)
    except EverymaskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    # Relative paths of a configuration, such as its folder of class heads, start where the caller is.
    environment = {"EVERYMASK_HOME": str(Path.cwd()), **os.environ}
    environment.setdefault("RAY_AUTH_MODE", "disabled")
    command = [str(Path(sys.executable).with_name("serve")), "run", str(file)]
    try:
        return subprocess.run(command, env=environment).returncode
    except KeyboardInterrupt:  # Serve hears it too, and shuts down; the wait above was only cut short
        return 130
