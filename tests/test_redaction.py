"""No secret of an address is stored or printed, and what names the file is kept."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everymask.errors import ConfigurationError, EverymaskError
from everymask.redaction import redact, redact_all

SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"

REAL_FORMS = {
    "s3 sigv4": (
        "https://photos.s3.eu-west-1.amazonaws.com/set/a.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        f"&X-Amz-Credential={SECRET}%2F20261126%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20261126T000000Z"
        f"&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Security-Token={SECRET}&X-Amz-Signature={SECRET}",
        "https://photos.s3.eu-west-1.amazonaws.com/set/a.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=***&X-Amz-Date=20261126T000000Z"
        "&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Security-Token=***&X-Amz-Signature=***",
    ),
    "s3 sigv2": (
        f"https://b.s3.amazonaws.com/a.jpg?AWSAccessKeyId={SECRET}&Expires=1141889120&Signature={SECRET}",
        "https://b.s3.amazonaws.com/a.jpg?AWSAccessKeyId=***&Expires=1141889120&Signature=***",
    ),
    "gcs v4": (
        f"https://storage.googleapis.com/b/a.jpg?X-Goog-Credential={SECRET}&X-Goog-Signature={SECRET}",
        "https://storage.googleapis.com/b/a.jpg?X-Goog-Credential=***&X-Goog-Signature=***",
    ),
    "gcs v2": (
        f"https://storage.googleapis.com/b/a.jpg?GoogleAccessId={SECRET}&Expires=1&Signature={SECRET}",
        "https://storage.googleapis.com/b/a.jpg?GoogleAccessId=***&Expires=1&Signature=***",
    ),
    "azure sas": (
        f"https://acc.blob.core.windows.net/c/a.jpg?sv=2022-11-02&sr=b&se=2026-11-27T00%3A00%3A00Z&sp=r&sig={SECRET}",
        "https://acc.blob.core.windows.net/c/a.jpg?sv=2022-11-02&sr=b&se=2026-11-27T00%3A00%3A00Z&sp=r&sig=***",
    ),
    "cloudfront": (
        f"https://d1.cloudfront.net/a.jpg?Policy={SECRET}&Signature={SECRET}&Key-Pair-Id={SECRET}",
        "https://d1.cloudfront.net/a.jpg?Policy=***&Signature=***&Key-Pair-Id=***",
    ),
    "alibaba oss": (
        f"https://b.oss-cn-hangzhou.aliyuncs.com/a.jpg?OSSAccessKeyId={SECRET}&Signature={SECRET}&security-token={SECRET}",
        "https://b.oss-cn-hangzhou.aliyuncs.com/a.jpg?OSSAccessKeyId=***&Signature=***&security-token=***",
    ),
    "tencent cos": (
        f"https://b.cos.ap-beijing.myqcloud.com/a.jpg?q-ak={SECRET}&q-signature={SECRET}",
        "https://b.cos.ap-beijing.myqcloud.com/a.jpg?q-ak=***&q-signature=***",
    ),
    "akamai": (f"https://cdn.example/a.jpg?hdnts=exp=1~hmac={SECRET}", "https://cdn.example/a.jpg?hdnts=***"),
    "discord": (
        f"https://cdn.discordapp.com/a.png?ex=67&is=66&hm={SECRET}",
        "https://cdn.discordapp.com/a.png?ex=67&is=66&hm=***",
    ),
    "dropbox": (
        f"https://www.dropbox.com/s/a.pth?rlkey={SECRET}&dl=1",
        "https://www.dropbox.com/s/a.pth?rlkey=***&dl=1",
    ),
    "sharepoint": (f"https://x.sharepoint.com/a?tempauth=v1.{SECRET}", "https://x.sharepoint.com/a?tempauth=***"),
    "gitlab": (f"https://gitlab.com/f?private_token={SECRET}", "https://gitlab.com/f?private_token=***"),
    "civitai": (
        f"https://civitai.com/api/download/models/1?token={SECRET}",
        "https://civitai.com/api/download/models/1?token=***",
    ),
    "oauth client": (
        f"https://h/a.pth?client_id=me&client_secret={SECRET}",
        "https://h/a.pth?client_id=me&client_secret=***",
    ),
    "escaped name": (f"https://h/a.pth?client%5Fsecret={SECRET}", "https://h/a.pth?client%5Fsecret=***"),
    "upper case": (f"HTTPS://h/a.pth?CLIENT_SECRET={SECRET}", "HTTPS://h/a.pth?CLIENT_SECRET=***"),
    "fragment": (f"https://h/a#access_token={SECRET}", "https://h/a#access_token=***"),
    "unknown name, token": (f"https://h/a.pth?zz={SECRET}", "https://h/a.pth?zz=***"),
    "jwt": (
        "https://h/a?x=eyJhbGciOiJIUzI1NiIsInR5.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6y",
        "https://h/a?x=***",
    ),
    "password": (f"https://alice:{SECRET}@h:8443/a.pth", "https://***@h:8443/a.pth"),
    "empty user": (f"https://:{SECRET}@h/a.pth", "https://***@h/a.pth"),
    "token before host": (f"https://{SECRET}@h/a.pth", "https://***@h/a.pth"),
    "github token": ("https://x-access-token:ghp_0123456789@github.com/a.git", "https://***@github.com/a.git"),
    "two at signs": ("ftp://alice:p@ss@h/a.jpg", "ftp://***@h/a.jpg"),
    "keys of s3": (f"s3://AKIAIOSFODNN7EXAMPLE:{SECRET}@bucket/set", "s3://***@bucket/set"),
    "keys of s3 with a slash": ("s3://AKIAIOSFODNN7EXAMPLE:wJalr/XUtn/FEMI@bucket/set", "s3://***@bucket/set"),
    "s3 parameters": (
        f"s3://bucket/set?access_key=AKIA&secret_key={SECRET}&endpoint_override=minio:9000&scheme=http",
        "s3://bucket/set?access_key=***&secret_key=***&endpoint_override=minio:9000&scheme=http",
    ),
    "chained": (f"zip://*.jpg::https://alice:{SECRET}@h/a.zip", "zip://*.jpg::https://***@h/a.zip"),
    "cached": (f"simplecache::https://h/a?sig={SECRET}", "simplecache::https://h/a?sig=***"),
    "address in a parameter": (
        f"https://proxy/get?url=https%3A%2F%2Falice%3A{SECRET}%40h%2Fa.jpg&w=3",
        "https://proxy/get?url=***&w=3",
    ),
    "login and password": (f"sftp://alice:{SECRET}@h/a.jpg", "sftp://***@h/a.jpg"),
    "azure container and password": (f"abfs://c:{SECRET}@h/a.jpg", "abfs://***@h/a.jpg"),
}


@pytest.mark.parametrize(("address", "expected"), REAL_FORMS.values(), ids=REAL_FORMS.keys())
def test_real_forms(address: str, expected: str) -> None:
    assert redact(address) == expected
    assert redact(expected) == expected, "once is enough"
    command = f"python data_jobs/label_dataset.py --checkpoint '{address}' --output runs/a"
    assert redact(command) == f"python data_jobs/label_dataset.py --checkpoint '{expected}' --output runs/a"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/photos/a@2x.jpg?sig=1",
        "s3://bucket/a@2x.jpg",
        "s3://bucket/set?endpoint_override=minio:9000&scheme=http&region=eu-west-1",
        "https://h:8443/what?.jpg",
        "https://h/get?id=17&file=the_old_bridge_in_the_evening_light.jpg",
        "http://[::1]:8000/a?b=c",
        "abfs://container@account.dfs.core.windows.net/a.jpg",
        "hdfs://alice@namenode:8020/a.jpg",
        "two images of the input have the id 'a.jpg', one of them gs://b/a.jpg; ids must be unique",
    ],
)
def test_what_is_no_secret_is_kept(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_any_text_is_redacted_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


def test_long_words_take_no_time() -> None:
    """Minutes, where each of a word's letters is tried as the beginning of an address."""
    for word in ("x" * 10**6, "a:" * 10**5, "://" * 10**5, "::a" * 10**5, "?a=" * 10**5, "s3://b/" + "?a=b&" * 10**5):
        assert redact(word) == word
    assert redact("x" * 10**6 + "://k:v@b") == "x" * 10**6 + "://***@b"


def test_nested_values() -> None:
    config = {"input": "s3://k:v@b", "limits": {"max_bytes": 3}, "names": ["a", "https://t@h/"], "none": None}
    expected = {"input": "s3://***@b", "limits": {"max_bytes": 3}, "names": ["a", "https://***@h/"], "none": None}
    assert redact_all(config) == expected


def test_no_error_repeats_a_secret() -> None:
    error = ConfigurationError("https://alice:secret@h/a.pth answered 403")
    assert str(error) == "https://***@h/a.pth answered 403"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(EverymaskError()) == ""


def test_every_error_is_one_line_whatever_a_name_holds() -> None:
    error = ConfigurationError("a\nb\x1b[2J\u2028\x9b.jpg of ünï is not there")
    assert str(error) == r"a\nb\x1b[2J\u2028\x9b.jpg of ünï is not there"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
