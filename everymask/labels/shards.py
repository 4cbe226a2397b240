"""Shards of a large run: the names of their files, their manifests, their seals.

    STORE/labels/<shard>-part-<32 hex>.parquet        rows of a shard that is not sealed
    STORE/labels/<shard>-<8 hex>-<4 digits>.parquet   rows that were put together; they count if the seal names them
    STORE/shards/<shard>/manifest-<4 digits>.parquet  the images of the shard
    STORE/shards/<shard>/seal.json                    this shard is finished, and these are its parts

docs/decisions/store-format-4.md says why.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from everymask.errors import ConfigurationError, InputError
from everymask.files.location import Location
from everymask.files.storage import one_line
from everymask.labels.parts import PartSummary
from everymask.labels.schema import FORMAT_VERSION, MANIFEST

MAX_SHARD_IMAGES = 2**20
"""Most images of one shard."""

_SMALL = re.compile(r"(\d{6})-part-[0-9a-f]{32}\.parquet")
_COMPACTED = re.compile(r"(\d{6})-[0-9a-f]{8}-\d{4}\.parquet")
_MANIFEST = re.compile(r"manifest-\d{4}\.parquet")
_FOLDER = re.compile(r"\d{6}")
_SEAL = "seal.json"


class DamagedSealError(InputError):
    """A seal's bytes differ from what was written."""


@dataclass(frozen=True)
class SealedPart:
    """A part named by a seal: its name in the store's `labels/`, its size in bytes and its number of rows."""

    name: str
    bytes: int
    images: int


@dataclass(frozen=True)
class Seal:
    """The contents of a seal.

    Attributes:
        shard: its number.
        manifest_sha256: `manifest_digest` of the shard's images.
        config_sha256: of the run's configuration.
        counts: totals of `parts`.
        parts: the shard's compacted parts.
        open: rows are being replaced; small parts of the shard count besides `parts`.
    """

    shard: int
    manifest_sha256: str
    config_sha256: str
    counts: PartSummary
    parts: tuple[SealedPart, ...]
    open: bool = False

    def encoded(self) -> bytes:
        """The file's content, with a digest of all."""
        content = {"format": FORMAT_VERSION, **asdict(self)}
        return (json.dumps({**content, "sha256": _digest(content)}, indent=1) + "\n").encode()

    @classmethod
    def decoded(cls, data: bytes, file: Location) -> Seal:
        """The inverse of `encoded`; `file` is named in errors.

        Raises:
            DamagedSealError: not what was written.
            ConfigurationError: of a newer format.
        """
        try:
            content = json.loads(data)
            version = content["format"]
            if version > FORMAT_VERSION:
                raise ConfigurationError(
                    f"{file} has format {version}; this everymask reads up to {FORMAT_VERSION}: upgrade it"
                )
            if content.pop("sha256") != _digest(content):
                raise ValueError("it does not fit its digest")
            del content["format"]
            counts = PartSummary(**content.pop("counts"))
            parts = tuple(SealedPart(**part) for part in content.pop("parts"))
            seal = cls(**content, counts=counts, parts=parts)
            if any(shard_of_part(part.name) != (seal.shard, True) for part in parts):
                raise ValueError("it names files that are no parts of the shard")
            return seal
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedSealError(
                f"{file} is damaged ({one_line(error)}); leave it there: the same `everymask label` command makes it "
                "again, and keeps every label"
            ) from error


@dataclass(frozen=True)
class Shard:
    """One shard of the store at `root`, numbered from 0."""

    root: Location
    number: int

    @property
    def name(self) -> str:
        return f"{self.number:06d}"

    @property
    def folder(self) -> Location:
        """The folder of its manifest and seal."""
        return self.root.child(f"shards/{self.name}")

    @property
    def seal_file(self) -> Location:
        return self.folder.child(_SEAL)

    def seal(self) -> Seal | None:
        """The seal, or None.

        Raises:
            DamagedSealError, ConfigurationError: as `Seal.decoded`.
            OSError: the storage does not answer.
        """
        try:
            data = self.seal_file.read()
        except FileNotFoundError:
            return None
        return Seal.decoded(data, self.seal_file)

    def write_seal(self, seal: Seal) -> None:
        """Write or replace the seal atomically; OutputError if the store is not writable."""
        self.seal_file.write(seal.encoded())

    def manifest_file(self, index: int) -> Location:
        """One file of the shard's manifest."""
        return self.folder.child(f"manifest-{index:04d}.parquet")

    def manifest_files(self) -> list[Location]:
        """The manifest's existing files, in order."""
        return [file for file in self.folder.entries() if _MANIFEST.fullmatch(file.name)]

    def files(self) -> list[Location]:
        """The files that runs wrote into the folder."""
        return [file for file in self.folder.entries() if _MANIFEST.fullmatch(file.name) or file.name == _SEAL]

    def part(self, name: str) -> Location:
        return self.root.child(f"labels/{name}")

    def small_part_name(self, part_name: str) -> str:
        """The name of a part (`part-<32 hex>.parquet`) within this shard."""
        return f"{self.name}-{part_name}"

    def compacted_part(self, generation: str, index: int) -> Location:
        """The file of a compacted part; a generation has 8 hexadecimal digits."""
        return self.part(f"{self.name}-{generation}-{index:04d}.parquet")


def shards_of(root: Location) -> list[Shard]:
    """The shards with manifests in a store, in order."""
    folders = root.child("shards").entries()
    return [Shard(root, int(folder.name)) for folder in folders if _FOLDER.fullmatch(folder.name)]


def shard_of_part(name: str) -> tuple[int, bool] | None:
    """The shard number in a part's name, and whether the part is compacted; None for other names."""
    if match := _SMALL.fullmatch(name):
        return int(match[1]), False
    if match := _COMPACTED.fullmatch(name):
        return int(match[1]), True
    return None


def write_manifest_file(file: Location, images: pa.Table) -> None:
    """Write rows of `MANIFEST` atomically; OutputError if the store is not writable."""
    sink = pa.BufferOutputStream()
    pq.write_table(images.cast(MANIFEST), sink, compression="zstd", write_page_checksum=True)
    file.write(sink.getvalue())


def read_manifest_file(file: Location, columns: list[str] | None = None) -> pa.Table:
    """The images of one manifest file; InputError if it is damaged or missing."""
    try:
        with file.open() as stream:
            return pq.read_table(stream, columns=columns, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file} cannot be read ({one_line(error)}); put it back: it says which images the shard has"
        ) from error


def manifest_rows(files: list[Location]) -> Iterator[dict[str, Any]]:
    """A manifest's images, streaming. Raises as `read_manifest_file`."""
    for file in files:
        yield from read_manifest_file(file).to_pylist()


def manifest_digest(files: list[Location]) -> str:
    """The sha256 of a manifest's images as JSON arrays, one a line. Raises as `read_manifest_file`."""
    digest = hashlib.sha256()
    for row in manifest_rows(files):
        digest.update(json.dumps([row[name] for name in MANIFEST.names], sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
