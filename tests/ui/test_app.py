from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ui.app import main


def test_a_used_port_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "--examples", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"127.0.0.1:{port} cannot be used" in message
    assert "--port" in message
