"""What is opened of the addresses in a label store, which may be a stranger's."""

from __future__ import annotations

from collections.abc import Sequence

from everymask.files.addresses import AddressPolicy, folder_of
from everymask.files.storage import is_remote
from everymask.labels.store import LabelStore


def address_policy(
    store: LabelStore, local_roots: Sequence[str] = (), allow_private_networks: bool = False
) -> AddressPolicy:
    """Local files are opened below the input that the store names as its own, or below `local_roots`.

    A stranger's store may name any input, so this alone guards nothing that is secret: images of a store are read with
    `everymask.images.files.read_labelled_bytes`, which gives only bytes whose digest the store already has.

    Raises:
        ConfigurationError: a part of the store has a newer format.
    """
    recorded = store.configuration().get("input")
    own = (folder_of(recorded),) if isinstance(recorded, str) and not is_remote(recorded) else ()
    return AddressPolicy((*own, store.uri, *local_roots), False, allow_private_networks)
