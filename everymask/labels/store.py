"""A directory of labels, the one source of truth: every other format is an export of it.

    STORE/run.json           where the labels come from (`everymask.labels.provenance`)
    STORE/labels/*.parquet   parts: rows of `SCHEMA`, each part written whole or not at all (`everymask.labels.parts`)
    STORE/shards/            of a large run: what is in each shard, and which parts count (`everymask.labels.shards`)
    STORE/estimate.json      what a sample foretold
    STORE/checkpoint/        work of the current attempt, and a lock
    STORE/preview/           a page of pictures
    STORE/corrections/       what people made of the labels (`everymask.labels.corrections`)
    STORE/quarantine/        files that could not be used, moved out of the way
    STORE/update/            new labels that are being made (`everymask.labels.updating`)

A folder without `run.json` and `labels/` that has stores named `<I>-of-<N>` in it opens as all of them. Its corrections
and its preview are its own.

A part is named by the images in it, so that writing it twice changes nothing. A file of an older format is never
rewritten: `everymask.labels.upgrade` copies a store. Names that begin with a dot are drafts of
a run that was killed; readers pass over them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from everymask.errors import ConfigurationError, InputError
from everymask.files.json_text import parse_json
from everymask.files.location import Location
from everymask.files.storage import split_query
from everymask.labels.facts import PartFacts, read_facts
from everymask.labels.mask_ids import settings_digest, with_mask_ids
from everymask.labels.parts import (
    PartHeader,
    PartSummary,
    copy_rows,
    read_batches,
    read_columns,
    read_header,
    read_rows,
    write_part,
)
from everymask.labels.rows import ImageRow, from_batch
from everymask.labels.schema import FORMAT_VERSION, SCHEMA
from everymask.labels.shards import Shard, shard_of_part
from everymask.labels.visible import Visible, part_files, stores_at, stream_rows, visible_parts
from everymask.redaction import redact

__all__ = ["LabelStore", "PartSummary"]

_READERS = 16
_ROWS_AT_ONCE, _RECORDS_AT_ONCE = 256, 16
_PART_NAME = re.compile(r"part-[0-9a-f]{32}\.parquet")
_PARTS_OF_A_SHARE = len(("<I>-of-<N>", "labels", "part"))
_PICTURES = ("index.html", "contact_sheet.jpg")
_DRAFT_NAME = re.compile(r"\..+\.[0-9a-f]{32}")


class LabelStore:
    """Reads and writes one label store, on any file system. Picklable; holds no rows.

    Args:
        uri: a local path or an address (`s3://…`).

    Attributes:
        root: the directory.
        run_file: what `everymask.labels.provenance` reads and writes.
        labels: the folder of the parts.
        shards: the folder of manifests and seals.
        listing_file: what the manifests were made of.
        estimate_file: what a sample foretold.
        checkpoint: a folder for the work of an attempt.
        pending: the attempt's list of images to label; like `changed`, it holds addresses with their secrets.
        changed: its list of images whose files may have changed.
        ended_file: how the last attempt ended, if no further one would end otherwise (`data_jobs.label_once`).
        preview: the folder of pictures.
        quarantine: the folder of files that could not be used.
        corrections: what people made of the labels (`everymask.labels.corrections`).

    Raises:
        ConfigurationError: the address cannot be opened.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/") or "/"
        self.root = Location.at(self.uri)
        self.run_file = self.root.child("run.json")
        self.labels = self.root.child("labels")
        self.shards = self.root.child("shards")
        self.listing_file = self.shards.child("listing.json")
        self.estimate_file = self.root.child("estimate.json")
        self.checkpoint = self.root.child("checkpoint")
        self.pending = self.checkpoint.child("pending")
        self.changed = self.checkpoint.child("changed")
        self.ended_file = self.checkpoint.child("ended.json")
        self.preview = self.root.child("preview")
        self.quarantine = self.root.child("quarantine")
        self.corrections = self.root.child("corrections")

    def __reduce__(self) -> tuple[type[LabelStore], tuple[str]]:
        return LabelStore, (self.uri,)

    def exists(self) -> bool:
        """Whether any run has begun here."""
        return self.run_file.kind() == "file"

    def parts(self) -> list[Location]:
        """All parts that count, in a fixed order, possibly foreign files too. Raises as `visible_parts`."""
        return [part for group in self.groups() for part in group.parts]

    def stores(self) -> list[LabelStore]:
        """This store alone, or those that it opens as one. Raises InputError: the storage does not answer."""
        found = stores_at(self.root)
        if found == [self.root]:
            return [self]
        place, query = split_query(self.uri)
        return [LabelStore(f"{place}/{one.name}{query}") for one in found]

    def name_of(self, part: Location) -> str:
        """What names a part in this store: its file's name, below its store's where several are open as one."""
        below = part.path.removeprefix(self.root.path).strip("/").split("/")
        return part.name if len(below) < _PARTS_OF_A_SHARE else f"{below[0]}/{part.name}"

    def part(self, name: str) -> Location:
        """The part that `name_of` names so."""
        share, _, file = name.rpartition("/")
        return (self.root.child(f"{share}/labels") if share else self.labels).child(file)

    def groups(self) -> list[Visible]:
        """All parts that count, by shard. Raises as `visible_parts`."""
        return visible_parts(self.root)

    def write_part(
        self, rows: pa.Table, configuration: Mapping[str, Any] | None = None, shard: int | None = None
    ) -> PartSummary:
        """Add rows of `SCHEMA`, at least one, as one part, atomically.

        `configuration` is the run's, as in run.json, None for labels made without a run; `shard` is the images' shard,
        if the run has shards.

        Raises:
            OutputError: the place is full or not writable.
        """
        name = part_name(rows["image_id"].to_pylist())
        if shard is not None:
            name = Shard(self.root, shard).small_part_name(name)
        return write_part(self.labels.child(name), rows, configuration or {})

    def keep_rows(
        self, part: Location, keep: Sequence[bool], new: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Atomically rewrite a part with only the rows to keep; an empty part is deleted.

        Args:
            keep: for each row, in order.
            new: new values by image id, then by column; all of them have the same columns.

        Raises:
            ConfigurationError: the part is of an older format.
            InputError: the part is damaged.
            OutputError: the place is full or not writable.
        """
        header = read_header(part)
        if header.format < FORMAT_VERSION:
            raise too_old(self.uri, header.format)
        if any(keep):
            copy_rows(part, [part], [keep], partial(with_values, new=new or {}))
        else:
            part.delete()

    def set_aside(self, file: Location, reason: str) -> Location:
        """Move an unusable file into the quarantine, under a name that begins with the reason; OSError on failure."""
        taken = {entry.name for entry in self.quarantine.entries()}
        name = f"{reason}-{file.name}"
        number = 1
        while name in taken:
            number += 1
            name = f"{reason}-{number}-{file.name}"
        target = self.quarantine.child(name)
        file.move(target)
        return target

    def is_ours(self, file: Location) -> bool:
        """Whether a file in `labels` or `preview` is named as a run names parts, pages or drafts."""
        is_part = _PART_NAME.fullmatch(file.name) is not None or shard_of_part(file.name) is not None
        return self.is_draft(file) or file.name in _PICTURES or is_part

    def is_draft(self, file: Location) -> bool:
        """Whether a run killed while writing left this file."""
        return _DRAFT_NAME.fullmatch(file.name) is not None

    def headers(self, parts: Sequence[Location]) -> list[PartHeader]:
        """Headers of parts, in order.

        Raises:
            InputError: a part is damaged or foreign.
            ConfigurationError: a part has a newer format.
        """
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(read_header, parts))

    def summary(self) -> PartSummary:
        """Totals of the whole store, from seals and the ends of files. Raises as `headers` and `groups` do."""
        groups = self.groups()
        sealed = sum((group.seal.counts for group in groups if group.seal is not None), PartSummary())
        headers = self.headers([part for group in groups for part in group.small])
        return sum((header.summary for header in headers), sealed)

    def batches(self, columns: list[str] | None = None, batch_size: int = 64) -> Iterator[pa.RecordBatch]:
        """All rows, streaming: memory does not grow with the store.

        `columns` None means all; `batch_size` is the most rows at a time.

        Raises:
            InputError: there is no label store here, or a part is damaged or foreign.
            ConfigurationError: a part has a newer format.
        """
        self._check_there()
        for _, batch in stream_rows(self.root, columns, batch_size):
            yield batch

    def batches_of(
        self, parts: Sequence[Location], columns: list[str] | None = None, batch_size: int = 64
    ) -> Iterator[pa.RecordBatch]:
        """The rows of some parts, streaming. Arguments and errors as in `batches`."""
        for part in parts:
            yield from read_batches(part, columns, batch_size)

    def images(self, batch_size: int = 16) -> Iterator[ImageRow]:
        """Every image of the store, streaming; masks of older formats get the ids they would have had.

        Raises as `batches`, and InputError for an invalid row.
        """
        self._check_there()
        yield from self._images(stream_rows(self.root, None, batch_size))

    def images_in(self, part: Location, rows: range) -> Iterator[ImageRow]:
        """Some images of a part, in order, streaming. Errors as in `images`."""
        for first in range(rows.start, rows.stop, _ROWS_AT_ONCE):
            table = read_rows(part, range(first, min(first + _ROWS_AT_ONCE, rows.stop)))
            yield from self._images((part, batch) for batch in table.to_batches(max_chunksize=_RECORDS_AT_ONCE))

    def _images(self, rows: Iterable[tuple[Location, pa.RecordBatch]]) -> Iterator[ImageRow]:
        digest = settings_digest(self.configuration())
        for part, batch in rows:
            for image in from_batch(batch, str(part)):
                if image.labels is not None:
                    image = replace(image, labels=with_mask_ids(image.labels, image.content_sha256, digest))
                yield image

    def facts(self, columns: Sequence[str] = ()) -> Iterator[tuple[Location, PartFacts]]:
        """Numbers about images and masks, part by part, without reading outlines.

        `columns` are of images, as in `read_facts`; raises as `images`.
        """
        self._check_there()
        for part in self.parts():
            yield part, read_facts(part, columns)

    def configuration(self) -> dict[str, Any]:
        """The labels' configuration, from any part, else from run.json; empty if neither has it.

        Raises:
            ConfigurationError: a part has a newer format.
        """
        for part in self.parts():
            with suppress(InputError):  # damaged or foreign; the next may be sound
                if configuration := read_header(part).configuration:
                    return configuration
                break  # of an older format
        if not self.exists():
            return {}
        try:
            return dict(parse_json(self.run_file.read())["config"])
        except (ValueError, KeyError, TypeError):
            return {}

    def read_columns(self, part: Location, columns: list[str]) -> pa.Table:
        """Some columns of one part. Raises as `headers` does."""
        read_header(part)
        return read_columns(part, columns)

    def format(self) -> int:
        """The oldest format here; `FORMAT_VERSION` if the store is empty.

        Raises:
            ConfigurationError: something has a newer format.
        """
        found = [FORMAT_VERSION]
        if self.exists():
            with suppress(ValueError, KeyError, TypeError):  # damaged; the parts know
                found.append(int(parse_json(self.run_file.read())["format"]))
        for part in self.parts():
            with suppress(InputError):  # damaged or foreign; the next may be sound
                found.append(read_header(part).format)
                break
        return min(found)

    def check_current(self) -> None:
        """ConfigurationError if the store has an older format, which is not changed, or a newer one."""
        version = self.format()
        if version < FORMAT_VERSION:
            raise too_old(self.uri, version)

    def _check_there(self) -> None:
        if not self.exists() and not any(map(part_files, stores_at(self.root))):
            raise InputError(f"{self.uri} is not a label store: it has neither run.json nor labels/*.parquet")


def with_values(rows: pa.Table, new: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """Rows with new values, given by image id and then by column; all of them have the same columns."""
    ids = rows["image_id"].to_pylist()
    for name in next(iter(new.values()), {}):
        before = rows[name].to_pylist()
        values = [new[key][name] if key in new else value for key, value in zip(ids, before, strict=True)]
        field = SCHEMA.field(name)
        rows = rows.set_column(SCHEMA.get_field_index(name), field, pa.array(values, field.type))
    return rows


def part_name(image_ids: Iterable[str]) -> str:
    """The name of the part that holds these images; their lengths count too, so no two lists share a name."""
    digest = hashlib.sha256()
    for name in sorted(image_id.encode() for image_id in image_ids):
        digest.update(len(name).to_bytes(8, "little") + name)
    return f"part-{digest.hexdigest()[:32]}.parquet"


def too_old(uri: str, version: int) -> ConfigurationError:
    """The error for a store that can be read but no longer changed."""
    place = redact(uri)
    return ConfigurationError(
        f"{place} has format {version}, which this everymask reads and does not change; copy it with "
        f"`everymask upgrade --labels {place} --output NEW` and go on with NEW"
    )
