from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from everymask.classes.exemplars.crawl import CrawlConfig, crawl
from everymask.classes.exemplars.manifest import ExemplarFolder, load_exemplars
from everymask.classes.exemplars.queries import Queries
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from everymask.files.download_limits import DownloadConfig
from tests.classes.exemplars.pictures import picture_file
from tests.files.web import Site, website

DOWNLOAD = DownloadConfig(
    requests_per_second=1e6, backoff_s=0.001, retries=1, allowed_private_networks=("127.0.0.1/32",)
)
CATS = Taxonomy.parse("cat")
PLAIN = Queries({"cat": ("cat",)})


@pytest.fixture
def site() -> Iterator[Site]:
    with website() as site:
        yield site


def result(url: str, **fields: object) -> dict[str, object]:
    plain = {"license": "by", "license_version": "2.0", "creator": "Ann", "foreign_landing_url": url + "/page"}
    return {"url": url, **plain, **fields}


def run(site: Site, results: int, folder: Path, queries: Queries = PLAIN, **settings: Any) -> list[Any]:
    config = CrawlConfig(endpoint=site.search(results), download=DOWNLOAD, **settings)
    return list(crawl(CATS, ExemplarFolder(folder, CATS), config, queries))


def bomb() -> bytes:
    """A PNG that claims 60,000 × 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_pictures_are_kept_with_licence_and_creator_over_several_pages(site: Site, tmp_path: Path) -> None:
    results = [result(site.serve(f"/{i}.jpg", picture_file(i)), creator=f"artist {i}") for i in range(7)]
    run(site, results, tmp_path)

    exemplars = load_exemplars(tmp_path)
    assert len(exemplars) == 7
    assert {item.origin.creator for item in exemplars} == {f"artist {i}" for i in range(7)}
    first = exemplars[0].origin
    assert (first.license, first.prompt, first.source) == ("by 2.0", "cat", "crawl")
    assert first.landing_url == f"{first.url}/page"


def test_only_as_many_as_asked_for_and_only_accepted_licences(site: Site, tmp_path: Path) -> None:
    results = [result(site.serve(f"/{i}.jpg", picture_file(i)), license="by-nc" if i % 2 else "by") for i in range(10)]
    run(site, results, tmp_path, images_per_subject=4)
    assert len(load_exemplars(tmp_path)) == 4
    assert {item.origin.license for item in load_exemplars(tmp_path)} == {"by 2.0"}


def test_every_query_of_a_subject_brings_its_share_and_the_last_makes_up_for_the_others(
    site: Site, tmp_path: Path
) -> None:
    found = {
        words: [result(site.serve(f"/{words}{i}.jpg", picture_file(10 * start + i))) for i in range(6)]
        for start, words in enumerate(("sitting", "walking"))
    }

    def answer(query: dict[str, str], count: int) -> tuple[int, dict[str, str], bytes]:
        results = found.get(query["q"], []) if query["page"] == "1" else []
        return 200, {"Content-Type": "application/json"}, json.dumps({"page_count": 1, "results": results}).encode()

    config = CrawlConfig(site.answer("/v1/images/", answer), images_per_subject=9, download=DOWNLOAD)
    queries = Queries({"cat": ("sitting", "asleep", "walking")})
    list(crawl(CATS, ExemplarFolder(tmp_path, CATS), config, queries))
    asked = Counter(item.origin.prompt for item in load_exemplars(tmp_path))
    assert asked == {"sitting": 3, "walking": 6}
    assert {item.origin.subject for item in load_exemplars(tmp_path)} == {"cat"}


def test_pages_past_the_last_one_are_not_taken_and_what_is_missing_is_said(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = [result(site.serve(f"/{i}.jpg", picture_file(i))) for i in range(3)]

    def answer(query: dict[str, str], count: int) -> tuple[int, dict[str, str], bytes]:
        results = pictures[int(query["page"]) - 1 :][:1]  # which has more than it says
        return 200, {"Content-Type": "application/json"}, json.dumps({"page_count": 2, "results": results}).encode()

    config = CrawlConfig(site.answer("/v1/images/", answer), images_per_subject=9, download=DOWNLOAD)
    list(crawl(CATS, ExemplarFolder(tmp_path, CATS), config, PLAIN))
    assert {item.origin.url for item in load_exemplars(tmp_path)} == {one["url"] for one in pictures[:2]}
    assert "only 2 of 9 pictures of cat were found" in caplog.text


def test_a_server_that_ignores_the_licence_filter_is_not_trusted(site: Site, tmp_path: Path) -> None:
    item = result(site.serve("/1.jpg", picture_file(1)), license="by-nc")
    answer = json.dumps({"page_count": 1, "results": [item]}).encode()
    endpoint = site.answer("/v1/images/", lambda query, count: (200, {"Content-Type": "application/json"}, answer))
    config = CrawlConfig(endpoint=endpoint, download=DOWNLOAD)
    assert list(crawl(CATS, ExemplarFolder(tmp_path, CATS), config, PLAIN)) == []


def test_every_bad_picture_is_rejected_with_its_reason_and_the_good_ones_are_kept(site: Site, tmp_path: Path) -> None:
    bad = {
        "status 500": site.answer("/500.jpg", lambda query, count: (500, {}, b"")),
        "status 404": site.base + "/404.jpg",
        "redirects": site.answer("/loop.jpg", lambda query, count: (302, {"Location": "/loop.jpg"}, b"")),
        "content type text/html": site.serve("/page.jpg", b"<html>", "text/html"),
        "pixels": site.serve("/bomb.png", bomb(), "image/png"),
        "image": site.serve("/fake.jpg", b"not a picture"),
        "near-duplicate": site.serve("/again.jpg", picture_file(1, (100, 117))),
        "private address": "http://169.254.169.254/latest/meta-data",
        "does not resolve": f"http://{'a' * 70}.example/x.jpg",
        "not a web address": "http://[::1/x.jpg",
        "compressed (br)": site.answer(
            "/br.jpg", lambda query, count: (200, {"Content-Type": "image/jpeg", "Content-Encoding": "br"}, b"x")
        ),
        "shorter side": site.serve("/small.jpg", picture_file(3, (20, 20))),
    }
    good = [result(site.serve("/1.jpg", picture_file(1))), result(site.serve("/2.jpg", picture_file(2)))]
    outcomes = run(site, [good[0], *(result(url) for url in bad.values()), good[1]], tmp_path)

    assert len(load_exemplars(tmp_path)) == 2
    reasons = {origin.url: reason for origin, reason in outcomes}
    for expected, url in bad.items():
        assert expected in reasons[url], (expected, reasons[url])


def test_the_search_is_retried_when_the_api_asks_to_slow_down(site: Site, tmp_path: Path) -> None:
    endpoint = site.search([result(site.serve("/1.jpg", picture_file(1)))])
    usual = site.pages["/v1/images/"]
    site.answer(
        "/v1/images/", lambda query, count: (429, {"Retry-After": "0"}, b"") if count == 0 else usual(query, count)
    )
    list(crawl(CATS, ExemplarFolder(tmp_path, CATS), CrawlConfig(endpoint=endpoint, download=DOWNLOAD), PLAIN))
    assert len(load_exemplars(tmp_path)) == 1


def test_a_second_run_goes_on_where_the_first_stopped(site: Site, tmp_path: Path) -> None:
    results = [result(site.serve(f"/{i}.jpg", picture_file(i))) for i in range(6)]
    results.insert(1, result(site.base + "/gone.jpg"))
    run(site, results, tmp_path, images_per_subject=2)
    run(site, results, tmp_path, images_per_subject=5)
    assert len(load_exemplars(tmp_path)) == 5
    assert site.requests["/0.jpg"] == 1
    assert site.requests["/gone.jpg"] == 1


def test_a_search_that_does_not_answer_is_one_sentence_and_keeps_what_there_is(site: Site, tmp_path: Path) -> None:
    results = [result(site.serve(f"/{i}.jpg", picture_file(i))) for i in range(3)]
    run(site, results, tmp_path)
    for broken in (
        lambda query, count: (500, {}, b""),
        lambda query, count: (200, {"Content-Type": "application/json"}, b"{]"),
        lambda query, count: (200, {"Content-Type": "application/json"}, b'{"detail": "no"}'),
        lambda query, count: (200, {"Content-Type": "application/json"}, b"[1]"),
        lambda query, count: (200, {"Content-Type": "application/json"}, b"[" * 100_000),
    ):
        config = CrawlConfig(endpoint=site.answer("/v1/images/", broken), download=DOWNLOAD)
        with pytest.raises(ConfigurationError, match="run the same command again"):
            list(crawl(CATS, ExemplarFolder(tmp_path, CATS), config, PLAIN))
    assert len(load_exemplars(tmp_path)) == 3
