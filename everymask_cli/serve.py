"""Start the HTTP service on this machine with one of the shipped configurations, or with a file of your own."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import yaml

import serve
from data_jobs.runtime.command import Command
from everymask.errors import ConfigurationError

_PR_SET_PDEATHSIG = 1
SHIPPED = Path(serve.__file__).resolve().parent / "config"


@dataclass(frozen=True)
class ServeOptions:
    """Start the HTTP service on this machine; Ctrl-C stops it."""

    config: str = "local"
    """local (the built-in model on two CPU cores), container (the same, where a published port leads), gpu, or a Serve
    configuration file of your own."""


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


def check_address_is_free(file: Path) -> None:
    """Refuse to start where something listens: Ray would deploy a second service over the first, or wait for the port.

    Raises:
        ConfigurationError: the configuration cannot be read, or its address is in use.
    """
    try:
        options = (yaml.safe_load(file.read_text()) or {}).get("http_options", {})
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"the configuration {file} cannot be read ({type(error).__name__})") from error
    host, port = options.get("host", "127.0.0.1"), options.get("port", 8000)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"{host}:{port} cannot be used ({error.strerror}); perhaps the service is running there already: stop "
                f"it, or start with a configuration that has another http_options.port than {file}"
            ) from error


def run(options: ServeOptions) -> int:
    """Ray Serve's own `serve run` where nothing is wrong. Returns its exit code, 143 after SIGTERM.

    Raises:
        ConfigurationError: there is no such configuration, its address is in use, or Ray Serve is not installed.
    """
    file = config_file(options.config)
    check_address_is_free(file)
    # Relative paths of a configuration, such as its folder of class heads, start where the caller is.
    environment = {"EVERYMASK_HOME": str(Path.cwd()), **os.environ}
    environment.setdefault("RAY_AUTH_MODE", "disabled")
    # A cluster is joined only where RAY_ADDRESS names one. Ray would also look for the record of the last cluster on
    # this machine, and wait for it in vain when that one was killed.
    address = environment.get("RAY_ADDRESS") or "local"
    program = str(Path(sys.executable).with_name("serve"))
    sys.stdout.flush()
    try:
        return run_until_told([program, "run", "--address", address, str(file)], environment)
    except OSError as error:
        raise ConfigurationError(
            f"{program} cannot be run ({error.strerror}); install the project with Ray Serve"
        ) from error


def run_until_told(command: list[str], environment: dict[str, str]) -> int:
    """Run a command that ends in order on SIGINT, and pass Ctrl-C, SIGTERM and a closed terminal on to it as that.

    Ray answers SIGTERM with a stack trace and an abort. On Linux the command is told to end, too, when this process is
    killed.

    Returns:
        The command's exit code, 128 + n if signal n ended it, 143 if SIGTERM came.

    Raises:
        OSError: there is no such command.
    """
    told: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: FrameType | None) -> None:
        told.append(number)
        if process is not None:
            process.send_signal(signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    # In a session of its own: a terminal's Ctrl-C would reach it beside ours, and the second one breaks off its end.
    process = subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=_end_with_parent)
    if told:
        process.send_signal(signal.SIGINT)
    code = process.wait()
    if signal.SIGTERM in told:
        return 128 + signal.SIGTERM
    return code if code >= 0 else 128 - code


def _end_with_parent() -> None:
    """In the child, before it becomes the command: ask the kernel for SIGINT when the parent is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


command = Command(
    "serve",
    ServeOptions,
    run,
    "Start the HTTP service on this machine; Ctrl-C stops it.",
    interrupted="the service was not started",
)
