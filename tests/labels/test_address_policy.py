"""What a label store may name, and what is opened of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from everymask.files.addresses import AddressError
from everymask.labels.address_policy import address_policy
from everymask.labels.rows import to_table
from everymask.labels.store import LabelStore
from tests.labels.examples import images


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    """A store whose labels were made of the folder `photos` beside it."""
    store = LabelStore(str(tmp_path / "labels"))
    store.write_part(to_table(images()), {"input": str(tmp_path / "photos")})
    return store


def test_the_input_the_store_and_named_folders_are_open_and_nothing_beside_them(
    store: LabelStore, tmp_path: Path
) -> None:
    policy = address_policy(store, [str(tmp_path / "mine")])
    for name in ("photos/a.png", "labels/a.png", "mine/a.png"):
        policy.check(str(tmp_path / name))
    for place in (tmp_path / "other" / "a.png", tmp_path / "photos.txt", "/etc/passwd"):
        with pytest.raises(AddressError, match="--local-root"):
            policy.check(str(place))


def test_a_remote_input_opens_nothing_of_this_machine(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "labels"))
    store.write_part(to_table(images()), {"input": "s3://bucket/photos"})
    with pytest.raises(AddressError, match="--local-root"):
        address_policy(store).check(str(tmp_path / "photos" / "a.png"))


def test_private_networks_are_reached_only_where_that_is_allowed(store: LabelStore) -> None:
    assert not address_policy(store).allow_private_networks
    assert address_policy(store, allow_private_networks=True).allow_private_networks
