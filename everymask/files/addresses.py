"""Which addresses may be opened when they come from content: a list, a manifest, a label store, a file of boxes.

A stranger may have written that content, so only schemes that image collections use are opened. The operator's own
addresses are trusted and not checked here. `storage.resolve` refuses chained addresses for both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from everymask.errors import InputError
from everymask.files.storage import canonical_uri, is_chained, is_remote, is_web, split_query

CONTENT_SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "http", "https")
"""URI schemes that content may name, besides local paths."""

_HARMLESS_PARAMETERS = frozenset({"region"})
_WILDCARDS = "*?[{"
_TABLES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_LISTS = (".txt", ".lst", ".parquet", "/manifest.json", *_TABLES)


class AddressError(InputError):
    """Raised when an address from content is refused; nothing was opened."""


@dataclass(frozen=True)
class AddressPolicy:
    """Which of the addresses in some content may be opened.

    Attributes:
        trusted: local or remote files and folders that the operator named; everything below them may be opened.
        any_local_file: whether any local file may be opened.
        allow_private_networks: whether http and https may reach addresses that are not public.
    """

    trusted: tuple[str, ...] = ()
    any_local_file: bool = False
    allow_private_networks: bool = False

    def __post_init__(self) -> None:
        # Workers, whose working directory may be another, get the policy with the job.
        object.__setattr__(self, "trusted", tuple(canonical_uri(place) for place in self.trusted))

    @classmethod
    def for_input(
        cls, location: str, local_roots: Sequence[str] = (), allow_private_networks: bool = False
    ) -> AddressPolicy:
        """The policy for an input that the operator typed; a local one may name any local file.

        Args:
            location: a folder, a glob, a list, a manifest or one image.
            local_roots: further folders whose files may be opened.
        """
        return cls((folder_of(location), *local_roots), not is_remote(location), allow_private_networks)

    def check(self, uri: str) -> None:
        """Raise AddressError if the policy refuses `uri`; opens nothing."""
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
        """Whether the operator named `uri` or a folder above it."""
        return any(_lies_below(uri, place) for place in self.trusted)

    def _parameters_are_known(self, uri: str) -> bool:
        query = split_query(uri)[1]
        if "?" in uri.removesuffix(query).partition("://")[2].partition("/")[0]:
            return False  # it stands before the path, where file systems look for parameters, too
        names = {parameter.partition("=")[0] for parameter in query[1:].split("&") if parameter}
        return names <= _HARMLESS_PARAMETERS or query in {split_query(place)[1] for place in self.trusted}


def folder_of(location: str) -> str:
    """The folder of an input: a list's own folder, or the part of a glob before its wildcards."""
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
