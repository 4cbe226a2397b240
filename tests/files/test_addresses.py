"""What is opened of the addresses that a stranger may have written."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path

import pytest

from everymask.errors import ConfigurationError
from everymask.files.addresses import AddressError, AddressPolicy, folder_of
from everymask.files.storage import resolve

CHAINED = [
    "reference::data://x:application;a.json;base64,e30=/a.jpg",
    "simplecache::file:///etc/hostname",
    "blockcache::http://127.0.0.1/b",
    "dir::file:///etc/hostname",
    "zip://x::http://127.0.0.1/z.zip",
    "zip://folder/x::http://127.0.0.1/z.zip",
    "s3://bucket/a.zip?x=y::file",
]
PLAIN = ["s3://bucket/2026-01-01T10::30.jpg", "http://[::1]/a.jpg", "s3://b/a.jpg?endpoint_override=http://[::1]:9"]


@pytest.mark.parametrize("address", CHAINED)
def test_a_chained_address_is_opened_for_nobody(address: str) -> None:
    with pytest.raises(ConfigurationError, match="is chained"):
        resolve(address)
    for policy in (AddressPolicy(), AddressPolicy(trusted=("s3://bucket", "zip://folder"), any_local_file=True)):
        with pytest.raises(AddressError, match="is chained"):
            policy.check(address)


def test_two_colons_in_a_name_chain_nothing() -> None:
    policy = AddressPolicy(trusted=("s3://b?endpoint_override=http://[::1]:9",))
    for address in PLAIN:
        policy.check(address)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "abfs", "hf", "http", "https", "HTTPS"])
def test_content_may_name_what_images_are_kept_in(scheme: str) -> None:
    AddressPolicy().check(f"{scheme}://somewhere/a.jpg")


@pytest.mark.parametrize(
    "scheme", ["data", "memory", "local", "FILE", "ftp", "sftp", "github", "git", "zip", "dask", "jupyter", "reference"]
)
def test_any_other_scheme_is_for_the_operator(scheme: str) -> None:
    with pytest.raises(AddressError, match=f"^{scheme.lower()}:// is not opened"):
        AddressPolicy(any_local_file=True).check(f"{scheme}://somewhere/a.jpg")
    AddressPolicy(trusted=(f"{scheme}://somewhere",)).check(f"{scheme}://somewhere/a.jpg")


@pytest.mark.parametrize("word", ["a:", "[", "[a", "::", "::a", "?a=b", "../", "//", "@", "%5B"])
def test_an_address_of_a_megabyte_takes_no_time(word: str) -> None:
    """Hours, where each of its marks is tried as the beginning of the same thing."""
    for address in (f"s3://{word * 10**5}/x", f"http://{word * 10**5}", f"s3://b/{word * 10**5}"):
        with suppress(AddressError):
            AddressPolicy().check(address)
    with suppress(ConfigurationError):
        resolve(f"http://{word * 10**5}/x")


def test_a_server_named_in_the_parameters_is_the_operators_own() -> None:
    address = "s3://photos/a.jpg?endpoint_override=http://10.0.0.1:9000"
    with pytest.raises(AddressError, match="a server of its own"):
        AddressPolicy(trusted=("s3://photos",)).check(address)
    AddressPolicy(trusted=("s3://labels/run?endpoint_override=http://10.0.0.1:9000",)).check(address)
    AddressPolicy().check("s3://photos/a.jpg?region=eu-central-1")
    AddressPolicy().check("s3://photos/what?.jpg?region=eu-central-1")
    hidden = "s3://photos?region=r&scheme=http&endpoint_override=10.0.0.1&tls_ca_file_path=/a.jpg?region=r"
    for policy in (AddressPolicy(), AddressPolicy(trusted=("s3://photos?region=r",))):
        with pytest.raises(AddressError, match="a server of its own"):
            policy.check(hidden)


def test_local_files_are_opened_below_the_named_folders_alone(tmp_path: Path) -> None:
    policy = AddressPolicy(trusted=(str(tmp_path / "photos"),))
    for name in ("photos/a.jpg", "photos/deep/../a.jpg"):
        policy.check(f"{tmp_path}/{name}")
        policy.check(f"file://{tmp_path}/{name}")
    for name in ("photos2/a.jpg", "photos/../a.jpg", "a.jpg"):
        with pytest.raises(AddressError, match="name its folder with --local-root"):
            policy.check(f"{tmp_path}/{name}")
    for address in ("/etc/passwd", "file:///etc/passwd", "~/.ssh/id_rsa", "photos/../../etc/passwd"):
        with pytest.raises(AddressError):
            policy.check(address)


def test_a_way_up_leaves_a_remote_folder() -> None:
    policy = AddressPolicy(trusted=("sftp://host/photos",))
    policy.check("sftp://host/photos/a.jpg")
    for address in ("sftp://host/photos/../secret.jpg", "sftp://host/photos2/a.jpg", "sftp://other/photos/a.jpg"):
        with pytest.raises(AddressError):
            policy.check(address)


def test_an_input_on_this_machine_may_name_any_file_of_it_and_a_remote_one_none() -> None:
    AddressPolicy.for_input("/data/list.txt").check("/elsewhere/a.jpg")
    remote = AddressPolicy.for_input("s3://bucket/list.txt", ["/data"])
    remote.check("/data/a.jpg")
    with pytest.raises(AddressError):
        remote.check("/elsewhere/a.jpg")


def test_the_operators_own_web_server_is_trusted_and_no_other() -> None:
    policy = AddressPolicy.for_input("http://intranet/photos/list.txt?token=a/b")
    assert policy.trusts("http://intranet/photos/a.jpg?size=1")
    assert not policy.trusts("http://intranet2/photos/a.jpg")
    assert not policy.trusts("https://intranet/photos/a.jpg")


@pytest.mark.parametrize(
    ("location", "folder"),
    [
        ("/photos", "/photos"),
        ("/lists/a.txt", "/lists"),
        ("a.parquet", "."),
        ("s3://b/lists/a.jsonl.gz", "s3://b/lists"),
        ("/shards/train-{000..127}.tar", "/shards"),
        ("/photos/*/a?.jpg", "/photos"),
        ("/*.jpg", "/"),
        ("s3://b/lists/a.lst?region=r", "s3://b/lists?region=r"),
    ],
)
def test_an_input_is_a_folder_whatever_names_it(location: str, folder: str) -> None:
    assert folder_of(location) == folder


def test_a_policy_means_the_same_where_a_worker_has_another_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exemplars").mkdir()
    monkeypatch.chdir(tmp_path)
    policy = pickle.loads(pickle.dumps(AddressPolicy(("exemplars",))))
    monkeypatch.chdir("/")
    policy.check(str(tmp_path / "exemplars" / "cat.jpg"))
    with pytest.raises(AddressError, match="outside of the input"):
        policy.check("/exemplars/cat.jpg")
