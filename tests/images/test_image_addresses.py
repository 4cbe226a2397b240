"""Image files at hostile addresses and on hostile servers."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from everymask.errors import ImageTooLargeError, InputError
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.images.files import read_bytes, read_labelled_bytes
from tests.files.web import Site, website

LIMITS = ImageLimits(max_bytes=10_000)
ANYWHERE = AddressPolicy(any_local_file=True, allow_private_networks=True)


@pytest.fixture
def site() -> Iterator[Site]:
    with website() as site:
        yield site


def test_a_secret_of_the_environment_goes_nowhere(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec's reference file system fills in templates, and these can read this process."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "TOP-SECRET")
    target = f"{site.base}/{{{{t.__globals__[os].environ[AWS_SECRET_ACCESS_KEY]}}}}"
    text = json.dumps({"version": 1, "templates": {"t": "{{x}}"}, "refs": {"a.jpg": [target, 0, 10]}})
    address = f"reference::data://x:application;a.json;base64,{base64.b64encode(text.encode()).decode()}/a.jpg"
    with pytest.raises(InputError, match="is chained"):
        read_bytes(address, LIMITS, ANYWHERE)
    assert not site.requests


def test_a_web_address_that_a_list_names_reaches_no_private_network(site: Site) -> None:
    address = site.serve("/a.jpg", b"hello")
    with pytest.raises(InputError, match=r"is a private address \(127\.0\.0\.1\); --allow-private-networks lets it"):
        read_bytes(address, LIMITS, AddressPolicy(any_local_file=True))
    assert not site.requests
    assert read_bytes(address, LIMITS, ANYWHERE) == b"hello"
    assert read_bytes(address, LIMITS, AddressPolicy(trusted=(site.base,))) == b"hello"


@pytest.mark.parametrize("query", ["?X-Amz-Signature=abc", "?sig=a%2Fb%3D&x=%C3%A4+b", ""])
def test_a_signed_address_is_asked_for_as_it_was_given(site: Site, query: str) -> None:
    address = site.serve("/b/x%20y.jpg", b"hello") + query
    assert read_bytes(address, LIMITS, ANYWHERE) == b"hello"
    assert site.targets == [f"/b/x%20y.jpg{query}"]


def test_an_answer_may_be_of_any_type_and_no_larger_than_a_file(site: Site) -> None:
    assert read_bytes(site.serve("/a", b"hello", "binary/octet-stream"), LIMITS, ANYWHERE) == b"hello"
    for headers in ({}, {"Content-Length": "abc"}):
        with pytest.raises(InputError):
            read_bytes(site.answer("/big", lambda query, count, h=headers: (200, h, b"x" * 10_001)), LIMITS, ANYWHERE)


@pytest.mark.parametrize(
    "address",
    [
        "data://,hello",
        "http://[::1",
        "http://127.0.0.1:99999/a.jpg",
        "http:///a.jpg",
        "s3://",
        "a\0b.jpg",
        "x" * 5000,
        "file://\0",
        "s3://bucket/a.jpg?nonsense=1",
        "az://container/a.jpg",
    ],
)
def test_whatever_cannot_be_read_is_a_sentence(address: str) -> None:
    with pytest.raises((InputError, OSError)):
        read_bytes(address, LIMITS, ANYWHERE)


def test_a_file_that_grows_while_it_is_read_is_bounded() -> None:
    """Files of /proc say that they are empty; those of /sys that they are larger than they are."""
    with pytest.raises((InputError, ImageTooLargeError)):
        read_bytes("/proc/self/maps", LIMITS, ANYWHERE)


def test_of_a_label_store_only_what_was_labelled_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"labelled")
    digest = hashlib.sha256(b"labelled").hexdigest()
    assert read_labelled_bytes(str(file), digest, LIMITS, ANYWHERE) == b"labelled"
    for nothing in (None, ""):
        with pytest.raises(InputError, match="has no content_sha256"):
            read_labelled_bytes(str(file), nothing, LIMITS, ANYWHERE)
    file.write_bytes(b"another")
    with pytest.raises(InputError, match="has changed since it was labelled"):
        read_labelled_bytes(str(file), digest, LIMITS, ANYWHERE)
    with pytest.raises(InputError, match="--local-root"):
        read_labelled_bytes(str(file), digest, LIMITS, AddressPolicy())
