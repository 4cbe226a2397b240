"""The interface of a kind of container: list its images, and read their bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa

from everymask.errors import InputError
from everymask.images.decoding import ImageLimits
from everymask.images.sources.options import SourceOptions
from everymask.records import Member, MemberKind


@dataclass(frozen=True, slots=True)
class Found:
    """One image of a container, or the error that ends its listing.

    Attributes:
        key: its name in the container, unique there; empty if `error` concerns the whole container.
        member: where it lies, or None.
        size: bytes, if the container records it.
        error: one sentence.
        address: of an image that the container only names; relative to the container's folder.
    """

    key: str
    member: Member | None = None
    size: int | None = None
    error: str | None = None
    address: str | None = None


@dataclass(frozen=True)
class Source:
    """One kind of container.

    Attributes:
        name: for people.
        suffixes: lower-case endings of its files.
        kinds: of the members it reads.
        images: lists an open file; never raises for a fault of the file, but reports it in the last one found.
        read: bytes of some members of an open file, in the given order; an error for each that has none.
        asked_for: whether the user also wants those that lie beside images.
        taken_by: the option to type for that.
        unpack: the stream of a file through which members of kind `scan` are read; `read` gets it in the file's place,
            maybe farther on than at its beginning.
    """

    name: str
    suffixes: tuple[str, ...]
    kinds: tuple[MemberKind, ...]
    images: Callable[[pa.NativeFile, str, SourceOptions], Iterator[Found]]
    read: Callable[[Any, Sequence[Member], ImageLimits], list[bytes | InputError]]
    asked_for: Callable[[SourceOptions], bool] = lambda options: False
    taken_by: str = "a glob of them as --input"
    unpack: Callable[[pa.NativeFile], IO[bytes]] | None = None
