"""Erases images: rows, corrections, pictures, and their return in a later run.

The store remembers erased images by the sha256 of their id (STORE/erased/*.parquet), and runs skip them. These digests
are written first, so the same call finishes an erasure that was killed.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from everymask.errors import ConfigurationError, EverymaskError, InputError, OutputError
from everymask.files.json_text import parse_json
from everymask.files.location import Location
from everymask.files.storage import canonical_uri, one_line
from everymask.labels.correction_log import erase_corrections, read_history
from everymask.labels.sealing import erase_from_shard
from everymask.labels.shards import Shard, read_manifest_file, shard_of_part, shards_of
from everymask.labels.store import LabelStore
from everymask.labels.updating import is_begun, update_of
from everymask.redaction import redact

_SCHEMA = pa.schema([("id_sha256", pa.string()), ("erased_at", pa.string())])
_SHOWN = 5


@dataclass(frozen=True)
class MadeExport:
    """A recorded export of a store.

    Attributes:
        output: file or folder, without secrets of addresses.
        format: the registry's name.
        made_at: UTC, ISO 8601.
        images: number of images in it.
    """

    output: str
    format: str
    made_at: str
    images: int


@dataclass(frozen=True)
class Erasure:
    """What was erased, and what a person must still handle.

    Attributes:
        rows: of the label store.
        correction_files: number rewritten.
        exports: made earlier and still there.
        quarantined: files that may hold one of the images.
    """

    rows: int
    correction_files: int
    exports: list[MadeExport] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)


def erase(store: LabelStore, image_ids: Iterable[str]) -> Erasure:
    """Remove images from a store for good.

    Args:
        store: no run may be writing it.
        image_ids: of images with a row or a correction, or erased before.

    Raises:
        ConfigurationError: the store has an older format, or nothing of one of the images; nothing was changed.
        InputError: there is no label store, or it is damaged.
        OutputError: the store is not writable.
    """
    store.check_current()
    ids = frozenset(image_ids)
    stores = _with_updates(store)
    parts = _parts_with(store, stores, ids)
    shards = [(one, shard) for one in stores for shard in shards_of(one.root)]
    listed = {image_id for _, shard in shards for image_id in _listed(shard, ids)}
    known = {image_id for _, rows in parts for image_id in rows} | read_history(store).entries.keys() | listed
    before = frozenset[str]().union(*map(erased_digests, store.stores()))
    unknown = sorted(image_id for image_id in ids - known if id_digest(image_id) not in before)
    if unknown:
        shown = ", ".join(map(ascii, unknown[:_SHOWN])) + (", …" if len(unknown) > _SHOWN else "")
        raise ConfigurationError(f"{redact(store.uri)} has no image {shown}; nothing was erased: check the ids")
    for one in stores:
        _remember(one, ids, erased_digests(one))
    rows = sum(erase_from_shard(one, shard, ids) for one, shard in shards)
    for part, found in parts:
        of_shard = shard_of_part(part.name)
        if of_shard is None or not of_shard[1]:
            keep = [image_id not in ids for image_id in found]
            store.keep_rows(part, keep)
            rows += keep.count(False)
    places = {one.uri: one for one in (store, *stores)}.values()
    corrections = sum(erase_corrections(one, ids) for one in places)
    try:
        quarantined = [str(file) for one in places for file in _cleared(one).quarantine.entries()]
    except OSError as error:
        raise OutputError(f"cannot clear {redact(store.uri)}: {one_line(error)}; give write access there") from error
    exports = [made for one in places for made in made_exports(one) if _is_there(made)]
    return Erasure(rows, corrections, exports, quarantined)


def _cleared(store: LabelStore) -> LabelStore:
    """The store, without pictures and lists that may hold the images. Raises OSError."""
    pictures = [file for file in store.preview.entries() if store.is_ours(file)]
    for place in (*pictures, store.pending, store.changed):
        place.delete()
    return store


def _with_updates(store: LabelStore) -> list[LabelStore]:
    """The store or stores, each with the update that was begun there."""
    return [place for one in store.stores() for place in (one, *([update_of(one)] if is_begun(one) else []))]


def copy_erased(store: LabelStore, update: LabelStore) -> None:
    """Let an update pass over the images that were erased from its store. Raises OutputError: it is not writable."""
    for file in _erased(store).entries():
        if not file.name.startswith("."):
            _erased(update).child(file.name).write(file.read())


def _parts_with(
    store: LabelStore, stores: Sequence[LabelStore], ids: frozenset[str]
) -> list[tuple[Location, list[str]]]:
    """Parts that hold any of the images, with the ids of all their rows."""
    parts = [part for one in stores for part in one.parts()]
    if not parts and not store.exists():
        raise InputError(f"{redact(store.uri)} is not a label store: it has neither run.json nor labels/*.parquet")
    found = ((part, store.read_columns(part, ["image_id"])["image_id"].to_pylist()) for part in parts)
    return [(part, rows) for part, rows in found if not ids.isdisjoint(rows)]


def _listed(shard: Shard, ids: frozenset[str]) -> Iterator[str]:
    """Which of the images are in the shard's manifest, with or without a row."""
    for file in shard.manifest_files():
        yield from ids.intersection(read_manifest_file(file, ["image_id"])["image_id"].to_pylist())


def id_digest(image_id: str) -> str:
    """The sha256 of an id in hexadecimal digits, by which an erased image is remembered."""
    return hashlib.sha256(image_id.encode()).hexdigest()


def erased_digests(store: LabelStore) -> frozenset[str]:
    """`id_digest` of every erased image; InputError if a list is damaged."""
    found: set[str] = set()
    for file in _erased(store).entries():
        if file.name.endswith(".parquet") and not file.name.startswith("."):
            try:
                with file.open() as stream:
                    found.update(pq.read_table(stream, columns=["id_sha256"])["id_sha256"].to_pylist())
            except (pa.ArrowException, OSError) as error:
                raise InputError(
                    f"{file} is damaged ({one_line(error)}); restore it: it keeps erased images from coming back"
                ) from error
    return frozenset(found)


def _erased(store: LabelStore) -> Location:
    return store.root.child("erased")


def _remember(store: LabelStore, ids: frozenset[str], before: frozenset[str]) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    rows = [{"id_sha256": digest, "erased_at": now} for digest in sorted(map(id_digest, ids)) if digest not in before]
    if rows:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), sink)
        _erased(store).child(f"{uuid.uuid4().hex}.parquet").write(sink.getvalue())


def remember_export(store: LabelStore, output: str, format_name: str, images: int) -> None:
    """Record an export in the store, if the store can be written."""
    place = canonical_uri(output)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    made = MadeExport(redact(place), format_name, now, images)
    with suppress(EverymaskError, OSError):
        _exports(store).child(f"{id_digest(place)[:32]}.json").write(
            (json.dumps(asdict(made)) + "\n").encode(), delays_s=()
        )


def made_exports(store: LabelStore) -> list[MadeExport]:
    """The recorded exports, by name; invalid records are skipped."""
    found = []
    for file in _exports(store).entries():
        with suppress(ValueError, TypeError, OSError):
            found.append(MadeExport(**parse_json(file.read())))
    return sorted(found, key=lambda made: made.output)


def _exports(store: LabelStore) -> Location:
    return store.root.child("exports")


def _is_there(made: MadeExport) -> bool:
    """Whether the export still exists, as far as can be told; if not, True."""
    try:
        return Location.at(made.output).kind() != "missing"
    except (EverymaskError, OSError):
        return True
