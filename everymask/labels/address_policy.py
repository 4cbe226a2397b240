"""Which addresses in a label store may be opened, since a stranger may have written it."""

from __future__ import annotations

from collections.abc import Sequence

from everymask.files.addresses import AddressPolicy, folder_of
from everymask.files.storage import is_remote
from everymask.labels.store import LabelStore


def address_policy(
    store: LabelStore, local_roots: Sequence[str] = (), allow_private_networks: bool = False
) -> AddressPolicy:
    """A policy that opens local files below the store's recorded input or below `local_roots`.

    A stranger's store may name any input, so this alone protects nothing secret: images of a store are read with
    `everymask.images.files.read_labelled_bytes`, which returns only bytes whose digest the store already has.

    Raises:
        ConfigurationError: a part of the store has a newer format.
    """
    recorded = store.configuration().get("input")
    own = (folder_of(recorded),) if isinstance(recorded, str) and not is_remote(recorded) else ()
    return AddressPolicy((*own, store.uri, *local_roots), False, allow_private_networks)
