"""The downloader against a real HTTP server on the loopback interface."""

from __future__ import annotations

import hashlib
import http.server
import multiprocessing
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from everymask.backbone.models import WeightSource
from everymask.backbone.weights import Weights, cache_directory, resolve_weights
from everymask.errors import CheckpointError

CONTENT = bytes(range(256)) * 20_000
FORK = multiprocessing.get_context("fork")
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Behaviour:
    """What the server does, and what it was asked.

    Attributes:
        content: the file at every path but /missing.
        etag: sent with it, if any.
        cut_after: bytes of the body after which the connection is closed, one entry per request; then none.
        statuses: answered instead of the file, one entry per request; then none.
        ranges: whether Range is honoured.
        asked: the Range header of every request.
        length: sent in place of the body's length; None sends none, and the body without an end.
    """

    content: bytes = CONTENT
    etag: str | None = '"one"'
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    length: str | None = ""


class Server(http.server.ThreadingHTTPServer):
    behaviour: Behaviour

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        behaviour = self.server.behaviour
        behaviour.asked.append(self.headers.get("Range"))
        status = behaviour.statuses.pop(0) if behaviour.statuses else None
        if self.path == "/circle":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
            return
        if status is not None or self.path == "/missing":
            self.send_error(status or 404)
            return
        wanted, start = self.headers.get("Range"), 0
        unchanged = self.headers.get("If-Range") in (None, behaviour.etag)
        if wanted and behaviour.ranges and unchanged:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(behaviour.content):
                self.send_error(416)
                return
            self.send_response(206)
            last = len(behaviour.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(behaviour.content)}")
        else:
            self.send_response(200)
        body = behaviour.content[start:]
        if behaviour.length is not None:
            self.send_header("Content-Length", behaviour.length or str(len(body)))
        if behaviour.etag:
            self.send_header("ETag", behaviour.etag)
        self.end_headers()
        self.wfile.write(body[: behaviour.cut_after.pop(0)] if behaviour.cut_after else body)
        with suppress(OSError):
            while behaviour.length is None:
                self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.behaviour = Behaviour()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERYMASK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


def fetch(source: WeightSource | str, attempts: int = 3) -> Weights:
    return resolve_weights(source, attempts=attempts, pause_s=0.0)


def in_processes(functions: Sequence[Callable[[], str]]) -> list[str]:
    """What each function returns in a process of its own, all at the same time."""
    answers: list[multiprocessing.SimpleQueue[str]] = [FORK.SimpleQueue() for _ in functions]
    workers = [
        FORK.Process(target=lambda answer=answer, function=function: answer.put(function()))
        for answer, function in zip(answers, functions, strict=True)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    return [answer.get() for answer in answers]


def leftovers(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.suffix in (".part", ".etag")]


def test_downloads_once_then_answers_from_the_cache(server: Server, cache: Path) -> None:
    source = WeightSource(f"{server.url}/sam.pth", SHA256, len(CONTENT))
    weights = fetch(source)
    assert weights.path.read_bytes() == CONTENT
    assert weights.sha256 == SHA256
    assert weights.path.is_relative_to(cache)
    assert weights.path.name == "sam.pth"
    assert fetch(source) == weights
    assert server.behaviour.asked == [None]
    assert leftovers(cache) == []


def test_reports_progress_on_stderr(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(f"{server.url}/sam.pth")
    shown = capsys.readouterr()
    assert "sam.pth" in shown.err
    assert "100%" in shown.err
    assert shown.out == ""


def test_a_wrong_hash_is_refused_and_not_kept(server: Server, cache: Path) -> None:
    with pytest.raises(CheckpointError, match=f"sha256 {SHA256}, expected 00"):
        fetch(WeightSource(f"{server.url}/sam.pth", "00" * 32))
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_cached_file_damaged_later_is_refused_and_fetched_again(server: Server) -> None:
    source = WeightSource(f"{server.url}/sam.pth", SHA256)
    path = fetch(source).path
    path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="run again"):
        fetch(source)
    assert fetch(source).path.read_bytes() == CONTENT


def test_a_cut_connection_is_resumed_where_it_stopped(server: Server) -> None:
    server.behaviour.cut_after = [1_000_000, 500_000]
    assert fetch(WeightSource(f"{server.url}/sam.pth", SHA256)).path.read_bytes() == CONTENT
    assert server.behaviour.asked == [None, "bytes=1000000-", "bytes=1500000-"]


def test_the_next_run_resumes_a_download_given_up(server: Server) -> None:
    server.behaviour.cut_after = [1_000_000]
    server.behaviour.statuses = []
    source = WeightSource(f"{server.url}/sam.pth", SHA256)
    with pytest.raises(CheckpointError, match="closed after 1000000 of 5120000 bytes"):
        fetch(source, attempts=1)
    assert fetch(source).path.read_bytes() == CONTENT
    assert server.behaviour.asked == [None, "bytes=1000000-"]


def test_a_server_without_ranges_starts_over(server: Server) -> None:
    server.behaviour.ranges = False
    server.behaviour.cut_after = [1_000_000]
    assert fetch(WeightSource(f"{server.url}/sam.pth", SHA256)).path.read_bytes() == CONTENT


def test_a_file_changed_between_two_connections_is_not_mixed(server: Server) -> None:
    server.behaviour.cut_after = [1_000_000]
    with pytest.raises(CheckpointError):
        fetch(f"{server.url}/sam.pth", attempts=1)
    server.behaviour.content, server.behaviour.etag = CONTENT[::-1], '"two"'
    assert fetch(f"{server.url}/sam.pth").path.read_bytes() == CONTENT[::-1]


def test_an_unnamed_version_is_not_resumed(server: Server) -> None:
    server.behaviour.etag = None
    server.behaviour.cut_after = [1_000_000]
    assert fetch(f"{server.url}/sam.pth").path.read_bytes() == CONTENT
    assert server.behaviour.asked == [None, None]


def test_a_part_longer_than_the_file_is_dropped(server: Server, cache: Path) -> None:
    source = WeightSource(f"{server.url}/sam.pth", SHA256)
    folder = cache / SHA256[:16]
    folder.mkdir(parents=True)
    (folder / "sam.pth.part").write_bytes(CONTENT + b"more")
    assert fetch(source).path.read_bytes() == CONTENT


def test_a_file_without_an_end_is_given_up_at_its_known_size(server: Server, cache: Path) -> None:
    server.behaviour.length = None
    with pytest.raises(CheckpointError, match=r"sends more than the 5,120,000 bytes"):
        fetch(WeightSource(f"{server.url}/sam.pth", SHA256, size_bytes=len(CONTENT)))
    assert leftovers(cache) == []


def test_a_length_that_is_no_number_is_no_length(server: Server) -> None:
    server.behaviour.length = "abc"
    assert fetch(WeightSource(f"{server.url}/sam.pth", SHA256)).sha256 == SHA256


@pytest.mark.parametrize("name", ["", ".", "%2e%2e", "a%00b", "a%0Ab"])
def test_a_name_that_no_file_can_have_is_not_the_files(server: Server, cache: Path, name: str) -> None:
    path = fetch(WeightSource(f"{server.url}/{name}", SHA256)).path
    assert (path.name, path.parent.parent) == ("weights", cache)


def test_a_server_that_leads_in_circles_is_one_sentence(server: Server) -> None:
    with pytest.raises(CheckpointError, match="answered 302") as refusal:
        fetch(f"{server.url}/circle")
    assert "\n" not in str(refusal.value)


def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.behaviour.statuses = [503, 429]
    assert fetch(WeightSource(f"{server.url}/sam.pth", SHA256)).sha256 == SHA256


def test_a_missing_file_is_not_asked_for_twice(server: Server) -> None:
    with pytest.raises(CheckpointError, match=r"answered 404 .*--checkpoint"):
        fetch(f"{server.url}/missing")
    assert len(server.behaviour.asked) == 1


def test_gives_up_after_the_attempts_it_was_given(server: Server) -> None:
    server.behaviour.statuses = [500] * 9
    with pytest.raises(CheckpointError, match="after 3 tries"):
        fetch(f"{server.url}/sam.pth")
    assert len(server.behaviour.asked) == 3


def test_nobody_listening_is_one_sentence(server: Server) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(CheckpointError, match="could not be downloaded after 2 tries"):
        fetch(f"{server.url}/sam.pth", attempts=2)


def test_a_file_larger_than_the_disk_is_refused_before_it_comes(server: Server, cache: Path) -> None:
    def fetch_with_little_room() -> str:
        # A limit on file size fails a write as a full disk does. Python ignores the signal that comes with it.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        with pytest.raises(CheckpointError) as caught:
            fetch(f"{server.url}/sam.pth")
        return str(caught.value)

    (message,) = in_processes([fetch_with_little_room])
    assert message.startswith(f"no space for sam.pth in {cache}")
    assert "EVERYMASK_CACHE" in message
    # What arrived is kept for the next run.
    assert fetch(f"{server.url}/sam.pth").path.read_bytes() == CONTENT
    assert server.behaviour.asked[1] is not None


def test_a_cache_that_cannot_be_written_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EVERYMASK_CACHE", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match="set EVERYMASK_CACHE to a writable directory"):
        fetch(f"{server.url}/sam.pth")


def test_processes_at_once_download_once(server: Server) -> None:
    barrier = FORK.Barrier(2)

    def fetch_together() -> str:
        barrier.wait()
        return fetch(WeightSource(f"{server.url}/sam.pth", SHA256)).sha256

    assert in_processes([fetch_together, fetch_together]) == [SHA256, SHA256]
    assert server.behaviour.asked == [None]


def test_files_of_one_name_from_two_places_are_kept_apart(server: Server) -> None:
    first = fetch(f"{server.url}/a/sam.pth")
    server.behaviour.content = CONTENT[::-1]
    assert fetch(f"{server.url}/b/sam.pth").sha256 != first.sha256
    assert first.path.read_bytes() == CONTENT


def test_a_local_file_is_used_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    path.write_bytes(CONTENT)
    assert resolve_weights(path) == Weights(path, SHA256)


@pytest.mark.parametrize(
    ("source", "problem"),
    [("no/such.pth", "does not exist"), ("s3://bucket/sam.pth", "s3:// is not supported")],
)
def test_what_is_not_there_is_named(source: str, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem):
        resolve_weights(source)


def test_the_cache_is_in_the_home_directory_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EVERYMASK_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "everymask"
