"""What each kind of container answers: which images are in it, and their bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from everymask.errors import InputError
from everymask.images.decoding import ImageLimits
from everymask.images.sources.options import SourceOptions
from everymask.records import Member, MemberKind


@dataclass(frozen=True, slots=True)
class Found:
    """One image of a container, or why there is no more of it.

    Attributes:
        key: its name in the container, unique there; empty where `error` is of the container as a whole.
        member: where it lies; None where there is none.
        size: bytes, where the container says.
        error: one sentence.
        address: of the image where the container only names it; relative ones begin at the container's folder.
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
        images: lists an open file; never raises what is the file's fault, but says it in the last one found.
        read: bytes of some members of an open file, in the order they were asked for; an error for each that has none.
        asked_for: whether the user wants them where they lie beside images, too.
        taken_by: what the user types for that.
    """

    name: str
    suffixes: tuple[str, ...]
    kinds: tuple[MemberKind, ...]
    images: Callable[[pa.NativeFile, str, SourceOptions], Iterator[Found]]
    read: Callable[[pa.NativeFile, Sequence[Member], ImageLimits], list[bytes | InputError]]
    asked_for: Callable[[SourceOptions], bool] = lambda options: False
    taken_by: str = "a glob of them as --input"
