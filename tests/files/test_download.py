from __future__ import annotations

import gzip
import ipaddress
import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import brotli
import pytest

from everymask.files.connections import is_public
from everymask.files.download import HttpClient
from everymask.files.download_limits import DownloadConfig, DownloadError
from tests.files.web import Site, website

CONFIG = DownloadConfig(
    requests_per_second=1e6, backoff_s=0.001, retries=2, max_bytes=1000, allowed_private_networks=("127.0.0.0/8",)
)
KIND = ("text/plain",)


@pytest.fixture
def site() -> Iterator[Site]:
    with website() as site:
        yield site


@pytest.fixture
def client() -> Iterator[HttpClient]:
    with HttpClient(CONFIG) as client:
        yield client


def test_a_file_is_fetched_by_a_client_that_names_itself(site: Site, client: HttpClient) -> None:
    assert client.get(site.serve("/a", b"hello", "text/plain; charset=utf-8"), KIND) == b"hello"
    assert all("everymask/" in agent for agent in site.agents)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_or_broken_server_is_asked_again(site: Site, client: HttpClient, status: int) -> None:
    headers = {"Retry-After": "0"} if status == 429 else {}
    url = site.answer(
        "/a", lambda query, count: (status, headers, b"") if count < 2 else (200, {"Content-Type": "text/plain"}, b"ok")
    )
    assert client.get(url, KIND) == b"ok"
    assert site.requests["/a"] == 3


def test_retries_end(site: Site, client: HttpClient) -> None:
    url = site.answer("/a", lambda query, count: (500, {}, b""))
    with pytest.raises(DownloadError, match="status 500, after 3 attempts"):
        client.get(url, KIND)
    assert site.requests["/a"] == 3


def test_what_will_not_get_better_is_not_asked_again(site: Site, client: HttpClient) -> None:
    with pytest.raises(DownloadError, match="status 404"):
        client.get(site.base + "/nothing", KIND)
    assert site.requests["/nothing"] == 1


def test_redirects_are_followed_and_an_endless_chain_is_not(site: Site, client: HttpClient) -> None:
    target = site.serve("/there", b"ok", "text/plain")
    assert client.get(site.answer("/here", lambda query, count: (302, {"Location": target}, b"")), KIND) == b"ok"
    loop = site.answer("/loop", lambda query, count: (302, {"Location": f"/loop?{count}"}, b""))
    with pytest.raises(DownloadError, match="more than 5 redirects"):
        client.get(loop, KIND)
    assert site.requests["/loop"] == 6


def test_another_type_is_refused_unread(site: Site, client: HttpClient) -> None:
    with pytest.raises(DownloadError, match="text/html"):
        client.get(site.serve("/a", b"<html>", "text/html"), KIND)


def test_a_file_above_the_limit_is_refused_whether_or_not_it_says_so(site: Site, client: HttpClient) -> None:
    with pytest.raises(DownloadError, match="1,000 bytes"):
        client.get(site.serve("/a", b"x" * 1001, "text/plain"), KIND)

    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    url, stop = dripping_server(iter([head, *[b"x" * 100] * 20]))
    try:
        with pytest.raises(DownloadError, match="1,000 bytes"):
            client.get(url, KIND)
    finally:
        stop.set()


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate, gzip"])
def test_a_compressed_answer_is_refused_undecoded(site: Site, client: HttpClient, encoding: str) -> None:
    small = {"gzip": gzip.compress, "br": brotli.compress}.get(encoding, bytes)(b"\0" * 900)

    def page(query: dict[str, list[str]], count: int) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "text/plain", "Content-Encoding": encoding}, small

    with pytest.raises(DownloadError, match=f"compressed \\({encoding}\\), which was not asked for"):
        client.get(site.answer("/a", page), KIND)
    assert site.headers["/a"]["Accept-Encoding"] == "identity"


def dripping_server(pieces: Iterator[bytes]) -> tuple[str, threading.Event]:
    """Its address, and what ends it: one connection that is sent a piece every 20 ms."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    stop = threading.Event()

    def drip() -> None:
        with listener, suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                for piece in pieces:
                    if stop.wait(0.02):
                        return
                    connection.sendall(piece)

    threading.Thread(target=drip, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/", stop


@pytest.mark.parametrize("where", ["status line", "headers", "body"])
def test_one_deadline_covers_everything_a_slow_server_does(where: str) -> None:
    beginning = {
        "status line": b"H",
        "headers": b"HTTP/1.1 200 OK\r\nX: ",
        "body": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n",
    }[where]
    url, stop = dripping_server(itertools.chain([beginning], itertools.repeat(b"x")))
    slow = replace(CONFIG, max_total_s=0.5, max_bytes=10**6)
    with HttpClient(slow) as client, pytest.raises(DownloadError, match=r"not finished after 0\.5 s"):
        client.get(url, KIND)
    stop.set()


def test_pauses_count_towards_the_deadline(site: Site) -> None:
    url = site.answer("/a", lambda query, count: (429, {"Retry-After": "50"}, b""))
    with HttpClient(replace(CONFIG, max_total_s=5)) as client, pytest.raises(DownloadError, match="no time is left"):
        client.get(url, KIND)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Content-Type: text/plain\r\nContent-Length: 9z", b"x"),
        (b"Content-Type: text/plain\r\nTransfer-Encoding: chunked", b"zz\r\n"),
        (b"Content-Type: text/plain\r\nContent-Encoding: gzip", b"no gzip"),
        (b"Location: http://[::1/", b""),
        (b"Location: http://" + b"a" * 70 + b".example/", b""),
        (b"Location: //\xff\xfe/", b""),
        (b"\xff\xff: \xff", b""),
        (b"no header at all", b""),
    ],
)
def test_whatever_a_server_answers_is_one_error_of_ours(headers: bytes, body: bytes) -> None:
    status = b"302 Found" if headers.startswith(b"Location") else b"200 OK"
    url, stop = dripping_server(iter([b"HTTP/1.1 " + status + b"\r\n" + headers + b"\r\n\r\n" + body]))
    with HttpClient(replace(CONFIG, retries=0)) as client, pytest.raises(DownloadError):
        client.get(url, KIND)
    stop.set()


@pytest.mark.parametrize(
    "url",
    [
        "http://" + "a" * 70 + ".example/",
        "http://" + ".".join(["a" * 60] * 6) + "/",
        "http://\ud800/",
        "http://a\x00b/",
        "http://xn--a/",
        "http://h:99999999/",
        "http://h:x/",
    ],
)
def test_addresses_that_break_name_services_are_refused(client: HttpClient, url: str) -> None:
    with pytest.raises(DownloadError):
        client.get(url, KIND)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::a00:1", False),
        ("2002:a00:1::1", False),
        ("2001:0:a00:1::1", False),
        ("192.88.99.1", False),
        ("::10.0.0.1", False),
        ("::ffff:0:10.0.0.1", False),
        ("fec0::1", False),
        ("fd00::1", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("100.64.0.1", False),
        ("::ffff:93.184.216.34", True),
    ],
)
def test_tunnels_and_private_networks_are_not_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "0.0.0.0", "[::ffff:10.0.0.1]"]
)
def test_private_addresses_are_refused_before_anything_is_sent(host: str) -> None:
    with HttpClient(DownloadConfig(backoff_s=0.001)) as client, pytest.raises(DownloadError, match="private address"):
        client.get(f"http://{host}:9/x", KIND)


def test_a_redirect_to_a_private_address_is_refused(site: Site) -> None:
    # Only the site's own address is allowed; 127.0.0.2 is as private as any.
    inside = site.base.replace("127.0.0.1", "127.0.0.2")
    url = site.answer("/a", lambda query, count: (302, {"Location": inside + "/secret"}, b""))
    site.serve("/secret", b"secret", "text/plain")
    config = replace(CONFIG, allowed_private_networks=("127.0.0.1/32",))
    with HttpClient(config) as client, pytest.raises(DownloadError, match=r"127\.0\.0\.2"):
        client.get(url, KIND)
    assert site.requests["/secret"] == 0


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "nonsense"])
def test_what_is_no_web_address_is_refused(client: HttpClient, url: str) -> None:
    with pytest.raises(DownloadError):
        client.get(url, KIND)


def test_a_server_that_hangs_up_is_one_error_after_the_retries(client: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted = []

        def hang_up() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                accepted.append(1)
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(DownloadError, match="after 3 attempts"):
            client.get(f"http://127.0.0.1:{listener.getsockname()[1]}/", KIND)
        thread.join()
    assert len(accepted) == 3
