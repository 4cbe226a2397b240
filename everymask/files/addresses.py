"""Which addresses are opened that come from content: a list, a manifest, a label store, a file of boxes.

Whoever wrote the content may be a stranger, so an address in it opens no more than what images are kept in. What the
operator types is trusted, and not checked here. Chained addresses are refused for both (`storage.resolve`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from everymask.errors import InputError
from everymask.files.storage import canonical_uri, is_chained, is_remote, is_web, split_query

CONTENT_SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "http", "https")
"""What an address from content may begin with, besides local paths."""

_HARMLESS_PARAMETERS = frozenset({"region"})
_WILDCARDS = "*?[{"
_TABLES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_LISTS = (".txt", ".lst", ".parquet", "/manifest.json", *_TABLES)


class AddressError(InputError):
    """An address from content that is not opened; nothing was asked of it."""


@dataclass(frozen=True)
class AddressPolicy:
    """What may be opened of the addresses that some content names.

    Attributes:
        trusted: files and folders, local or remote, that the operator has named: whatever lies below may be opened.
        any_local_file: local files may be opened wherever they are.
        allow_private_networks: http and https may reach addresses that are not public.
    """

    trusted: tuple[str, ...] = ()
    any_local_file: bool = False
    allow_private_networks: bool = False

    @classmethod
    def for_input(
        cls, location: str, local_roots: Sequence[str] = (), allow_private_networks: bool = False
    ) -> AddressPolicy:
        """Of an input that the operator has typed: what is listed on this machine may name any file of it.

        Args:
            location: a folder, a glob, a list, a manifest or one image.
            local_roots: further folders whose files may be opened.
            allow_private_networks: see the attribute.
        """
        return cls((folder_of(location), *local_roots), not is_remote(location), allow_private_networks)

    def check(self, uri: str) -> None:
        """Raises AddressError if `uri` is not opened; asks nothing of any place."""
        if is_chained(uri):
            raise AddressError("the address is chained (`::`), which is never opened; give a plain address")
        if self.trusts(uri):
            return
        if not is_remote(uri):
            if not self.any_local_file:
                raise AddressError(
                    f"{canonical_uri(uri)} is not opened: it lies outside of the input; name its folder with "
                    "--local-root if it is yours"
                )
            return
        scheme = uri.partition("://")[0].lower()
        if scheme not in CONTENT_SCHEMES:
            raise AddressError(
                f"{scheme}:// is not opened where a list or a label store names it, only local paths and "
                f"{', '.join(CONTENT_SCHEMES)}; copy the file there, or give its folder as the input"
            )
        if not is_web(uri) and not self._parameters_are_known(uri):
            raise AddressError(
                "the address names a server of its own in its parameters, which is not opened; give its folder, with "
                "these parameters, as the input or with --local-root"
            )

    def trusts(self, uri: str) -> bool:
        """Whether the operator has named `uri`, or a folder above it."""
        return any(_lies_below(uri, place) for place in self._places)

    @cached_property
    def _places(self) -> tuple[str, ...]:
        return tuple(canonical_uri(place) for place in self.trusted)

    def _parameters_are_known(self, uri: str) -> bool:
        query = split_query(uri)[1]
        names = {parameter.partition("=")[0] for parameter in query[1:].split("&") if parameter}
        return names <= _HARMLESS_PARAMETERS or query in {split_query(place)[1] for place in self._places}


def folder_of(location: str) -> str:
    """The folder that an input consists of: of a list that of the list, of a glob the part before the wildcards."""
    base, query = split_query(location)
    if base.lower().endswith(_LISTS):
        return (base.rpartition("/")[0] or ("/" if base.startswith("/") else ".")) + query
    wildcards = [place for mark in _WILDCARDS if (place := base.find(mark)) >= 0]
    if wildcards and not os.path.exists(base):
        return (base[: min(wildcards)].rpartition("/")[0] or ("/" if base.startswith("/") else ".")) + query
    return location


def _lies_below(uri: str, place: str) -> bool:
    base, query = split_query(place)
    address, parameters = split_query(canonical_uri(uri))
    if is_remote(uri) != is_remote(place) or ".." in address.split("/"):
        return False
    if not is_web(uri) and parameters != query:
        return False
    return address == base or address.startswith(base.rstrip("/") + "/")
