"""The console command: its list, its errors, and that every command it names can be asked for help."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import everymask
from everymask_cli.main import COMMANDS, Row, main
from everymask_cli.serve import (
    DEFAULT_HEADS,
    SHIPPED,
    ServeOptions,
    address_of,
    check_address_is_free,
    config_file,
    configured,
    read_configuration,
)
from everymask_cli.serve_output import ServeOutput
from serve.settings import ServiceSettings
from tests.serve.running_service import await_that
from tests.ui.answering import answering


def test_without_a_command_it_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(re.search(rf"^  {row.words} +\w", listed, re.MULTILINE) for row in COMMANDS)


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"everymask {everymask.__version__}\n"


@pytest.mark.parametrize(
    ("words", "named"), [(["labels"], "train nano"), (["train"], "train nano"), (["train", "sam"], "train nano")]
)
def test_an_unknown_command_names_those_there_are(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert repr(" ".join(words)) in error
    assert named in error
    assert ("review queue" in error) == (words == ["labels"])


def test_a_group_of_commands_lists_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--help"]) == 0
    listed = capsys.readouterr().out
    assert "evaluate clicks" in listed
    assert "export" not in listed


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.words)
def test_every_command_explains_itself_under_its_own_name(row: Row, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([*row.words.split(), "--help"])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    assert code == 0
    assert f"usage: everymask {row.words}" in capsys.readouterr().out


def test_a_configuration_is_a_shipped_name_or_a_file() -> None:
    assert config_file("local") == SHIPPED / "local.yaml"
    assert config_file(str(SHIPPED / "gpu.yaml")) == SHIPPED / "gpu.yaml"
    with pytest.raises(everymask.errors.ConfigurationError, match=r"missing\.yaml; give one of container, gpu, local"):
        config_file("missing.yaml")


def _configuration(folder: Path, content: object) -> Path:
    path = folder / "service.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_second_service_on_one_port_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as running:
        running.bind(("127.0.0.1", 0))
        running.listen()
        port = running.getsockname()[1]
        path = _configuration(tmp_path, {"http_options": {"host": "127.0.0.1", "port": port}})
        assert main(["serve", "--config", str(path)]) == 2
        error = capsys.readouterr().err
        assert f"127.0.0.1:{port}" in error
        assert "running there already" in error
    check_address_is_free(read_configuration(path), str(path))


@pytest.mark.parametrize(
    "content", [["a list"], "text", {"http_options": []}, {"http_options": {"host": "no such host", "port": 1}}]
)
def test_a_configuration_that_cannot_be_used_is_named(
    tmp_path: Path, content: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--config", str(_configuration(tmp_path, content))]) == 2
    assert "service.yaml" in capsys.readouterr().err


def test_what_is_typed_stands_before_the_configuration() -> None:
    typed = ServeOptions(model="mobile_sam", heads=("runs", "more"), host="0.0.0.0", port=9)
    content = configured(typed)
    assert (content["http_options"]["host"], content["http_options"]["port"]) == ("0.0.0.0", 9)
    args = content["applications"][0]["args"]
    assert args["model"] == "mobile_sam"
    assert args["heads"] == [os.path.abspath("runs"), os.path.abspath("more"), "heads"]
    assert args["requests"] == configured(ServeOptions())["applications"][0]["args"]["requests"]
    assert address_of(content) == "http://127.0.0.1:9"


def test_the_folders_of_heads_are_those_of_the_service() -> None:
    assert ServiceSettings().heads == DEFAULT_HEADS


def test_settings_of_our_service_need_our_service(tmp_path: Path) -> None:
    path = _configuration(tmp_path, {"applications": [{"name": "other", "import_path": "other:app"}]})
    configured(ServeOptions(config=str(path), port=9))
    with pytest.raises(everymask.errors.ConfigurationError, match="no application"):
        configured(ServeOptions(config=str(path), model="nano"))


def test_where_the_service_is_and_what_to_type_next_is_said_once_it_is_ready(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said: list[str] = []

    def is_said() -> bool:
        said.append(capsys.readouterr().out)
        return "everymask ui" in "".join(said)

    def until_it_is_said() -> Iterator[bytes]:
        await_that(is_said)
        yield b""

    with answering(200, b"{}") as url:
        ServeOutput(url, ["runs", "heads"]).follow(until_it_is_said())  # type: ignore[arg-type]
    assert "".join(said).splitlines() == [
        "starting the service; Ctrl-C stops it",
        f"ready at {url}; class heads are looked for in runs, heads",
        f"next, for a page of it: everymask ui --endpoint {url}",
    ]


def test_only_news_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        "2026-11-29 18:00:00,000 INFO worker.py:1 -- Started a local Ray instance.",
        '(ServeReplica pid=1) {"levelname": "INFO", "message": "GET /readyz 200"}',
        "2026-11-29 18:00:01,000 SUCC scripts.py:1 -- \x1b[32mSubmitted deploy config successfully.\x1b[39m",
        "",
        "(ServeReplica pid=1) ConfigurationError: there is no class head",
    ]
    output = ServeOutput("http://127.0.0.1:9", None)
    output.follow(io.BytesIO("\n".join([*lines, "last"]).encode()))
    told = capsys.readouterr()
    assert told.err.splitlines() == [lines[-1], "last"]
    output.follow(io.BytesIO(b"2026 SUCC scripts.py -- shutting down\n"))
    assert capsys.readouterr().err == ""


def test_the_configuration_for_containers_differs_from_the_local_one_in_its_address_alone() -> None:
    local, container = (yaml.safe_load((SHIPPED / f"{name}.yaml").read_text()) for name in ("local", "container"))
    assert container["http_options"]["host"] == "0.0.0.0"
    container["http_options"]["host"] = local["http_options"]["host"]
    assert container == local


WAITS = """
import signal
try:
    print("up", flush=True)
    signal.pause()
except KeyboardInterrupt:
    print("ended in order", flush=True)
"""
SUPERVISOR = """
import os, sys
from everymask_cli.serve import run_until_told
sys.exit(run_until_told(sys.argv[1:], dict(os.environ)))
"""


@pytest.mark.parametrize(("told", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 0), (signal.SIGHUP, 0)])
def test_a_signal_ends_the_service_in_order(told: signal.Signals, code: int) -> None:
    command = [sys.executable, "-c", SUPERVISOR, sys.executable, "-c", WAITS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "up\n"
        supervisor.send_signal(told)
        assert supervisor.stdout.read() == "ended in order\n"
    assert supervisor.returncode == code


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells children of their parent's death on Linux only")
def test_the_service_does_not_outlive_a_killed_command() -> None:
    command = [sys.executable, "-c", SUPERVISOR, sys.executable, "-c", WAITS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "up\n"
        supervisor.kill()
        assert supervisor.stdout.read() == "ended in order\n"


@pytest.mark.parametrize(("code", "told"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_the_services_own_end_is_told(code: str, told: int) -> None:
    command = [sys.executable, "-c", SUPERVISOR, sys.executable, "-c", code]
    assert subprocess.run(command, check=False).returncode == told
