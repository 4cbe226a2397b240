"""Starts the HTTP service on this machine, with a shipped configuration or a file of your own."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

import serve
from data_jobs.runtime.command import Command
from data_jobs.runtime.object_store import MAX_OBJECT_STORE_BYTES
from everymask.errors import ConfigurationError
from everymask_cli.serve_output import ServeOutput

_PR_SET_PDEATHSIG = 1
BUILDER = "serve.app:build"
DEFAULT_HEADS = ("heads",)
SHIPPED = Path(serve.__file__).resolve().parent / "config"


@dataclass(frozen=True)
class ServeOptions:
    """Start the HTTP service on this machine; Ctrl-C stops it."""

    config: str = "local"
    """local (the built-in model on two CPU cores), container (the same, reachable through a published port), gpu, or a
    Serve configuration file of your own."""
    model: str | None = None
    """Registry name of the model, instead of the configuration's."""
    heads: tuple[str, ...] = ()
    """Folders of class heads, searched before the configuration's."""
    host: str | None = None
    """Address to listen on, instead of the configuration's; 0.0.0.0 lets other machines in."""
    port: int | None = None
    """Port to listen on, instead of the configuration's."""


def config_file(config: str) -> Path:
    """The file of a shipped configuration or at a path; ConfigurationError if there is neither."""
    for candidate in (SHIPPED / f"{config}.yaml", Path(config)):
        if candidate.is_file():
            return candidate
    shipped = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.yaml")))
    raise ConfigurationError(f"there is no configuration {config}; give one of {shipped}, or a YAML file")


def read_configuration(file: Path) -> dict[str, Any]:
    """The content of a Serve configuration; ConfigurationError if it cannot be read."""
    try:
        content = yaml.safe_load(file.read_text()) or {}
        content.setdefault("http_options", {}).setdefault("host", "127.0.0.1")
        content["http_options"].setdefault("port", 8000)
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"the configuration {file} cannot be read ({type(error).__name__})") from error
    read: dict[str, Any] = content
    return read


def configured(options: ServeOptions) -> dict[str, Any]:
    """The configuration, overridden by the options.

    Raises:
        ConfigurationError: it cannot be read, or options of our service were given and it does not start our service.
    """
    file = config_file(options.config)
    content = read_configuration(file)
    for name in ("host", "port"):
        if getattr(options, name) is not None:
            content["http_options"][name] = getattr(options, name)
    service = our_application(content)
    if service is None:
        if options.model or options.heads:
            raise ConfigurationError(f"{file} starts no application {BUILDER}; leave --model and --heads out")
        return content
    if options.model is not None:
        service["args"]["model"] = options.model
    # Absolute: replicas on a running cluster have other working directories.
    service["args"]["heads"] = [*map(os.path.abspath, options.heads), *_folders(service)]
    return content


def our_application(content: dict[str, Any]) -> dict[str, Any] | None:
    """The configuration's application that is our service, with its `args`; None if it starts only others."""
    for application in content.get("applications") or ():
        if isinstance(application, dict) and application.get("import_path") == BUILDER:
            application["args"] = application.get("args") or {}
            return application
    return None


def _folders(service: dict[str, Any]) -> list[str]:
    folders = service["args"].get("heads", DEFAULT_HEADS)
    return [folders] if isinstance(folders, str) else list(folders)


def check_address_is_free(content: dict[str, Any], config: str) -> None:
    """ConfigurationError if the address is in use or invalid.

    Otherwise Ray would deploy a second service over the first, or wait for the port.
    """
    host, port = content["http_options"]["host"], content["http_options"]["port"]
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, TypeError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ConfigurationError(
                f"{host}:{port} cannot be used ({reason}); perhaps the service is running there already: stop it, or "
                f"give another --port than that of the configuration {config}"
            ) from error


def run(options: ServeOptions) -> int:
    """Run Ray Serve's `serve run`; returns its exit code, 143 after SIGTERM.

    Raises:
        ConfigurationError: there is no such configuration, its address is in use, or Ray Serve is not installed.
    """
    content = configured(options)
    check_address_is_free(content, options.config)
    # Relative paths of a configuration, such as its folder of class heads, start where the caller is.
    environment = {"EVERYMASK_HOME": str(Path.cwd()), **os.environ}
    environment.setdefault("RAY_AUTH_MODE", "disabled")
    # What goes from replica to replica is a few embeddings.
    environment.setdefault("RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES", str(MAX_OBJECT_STORE_BYTES))
    # A cluster is joined only where RAY_ADDRESS names one. Ray would also look for the record of the last cluster on
    # this machine, and wait for it in vain when that one was killed.
    address = environment.get("RAY_ADDRESS") or "local"
    program = str(Path(sys.executable).with_name("serve"))
    service = our_application(content)
    with tempfile.TemporaryDirectory(prefix="everymask-") as folder:
        file = Path(folder) / "serve.yaml"
        file.write_text(yaml.safe_dump(content))
        output = ServeOutput(address_of(content), None if service is None else _folders(service))
        try:
            return run_until_told([program, "run", "--address", address, str(file)], environment, output)
        except OSError as error:
            raise ConfigurationError(
                f"{program} cannot be run ({error.strerror}); install the project with Ray Serve"
            ) from error


def address_of(content: dict[str, Any]) -> str:
    """The service's address for a browser on this machine."""
    options, service = content["http_options"], our_application(content) or {}
    host = "127.0.0.1" if options["host"] in ("0.0.0.0", "::") else options["host"]
    return f"http://{host}:{options['port']}{str(service.get('route_prefix', '/')).rstrip('/')}"


def run_until_told(command: list[str], environment: dict[str, str], output: ServeOutput | None = None) -> int:
    """Run a command that ends in order on SIGINT; pass Ctrl-C, SIGTERM and hang-ups on to it as SIGINT.

    Ray answers SIGTERM with a stack trace and an abort. On Linux the command also gets SIGINT when this process is
    killed.

    Args:
        command: program and arguments.
        environment: of the program.
        output: receives what it prints; by default that goes where ours goes.

    Returns:
        The command's exit code, 128 + n if signal n ended it, 143 if SIGTERM came.

    Raises:
        OSError: there is no such command.
    """
    told: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: FrameType | None) -> None:
        told.append(number)
        if output is not None:
            output.is_ending()
        if process is not None:
            process.send_signal(signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    # In a session of its own: a terminal's Ctrl-C would reach it beside ours, and the second one breaks off its end.
    process = subprocess.Popen(
        command,
        stdout=None if output is None else subprocess.PIPE,
        stderr=None if output is None else subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )
    if told:
        process.send_signal(signal.SIGINT)
    if output is not None:
        assert process.stdout is not None
        output.follow(process.stdout)
    code = process.wait()
    if signal.SIGTERM in told:
        return 128 + signal.SIGTERM
    return code if code >= 0 else 128 - code


def _end_with_parent() -> None:
    """In the child, before it becomes the command: have the kernel send SIGINT when the parent is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


command = Command(
    "serve",
    ServeOptions,
    run,
    "Start the HTTP service on this machine; Ctrl-C stops it.",
    interrupted="the service was not started",
)
