"""A directory of labels, the one source of truth: every other format is an export of it.

    STORE/run.json           where the labels come from (`everymask.labels.provenance`)
    STORE/labels/*.parquet   parts: rows of `SCHEMA`, each part written whole or not at all

A part describes itself: its metadata hold the format, the configuration of the run and what is in it, and its pages
have checksums. It is named by the images in it, so that writing it twice changes nothing. Names that begin with a dot
are drafts of a run that was killed; readers pass over them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from everymask.errors import ConfigurationError, InputError
from everymask.labels.identity import settings_digest, with_mask_ids
from everymask.labels.rows import LabelledImage, from_batch
from everymask.labels.schema import FORMAT_VERSION, SCHEMA
from everymask.storage import resolve, write_whole

_METADATA_KEY = b"everymask"
_FOOTER_READERS = 16
_CHECKED = pds.ParquetFileFormat(
    default_fragment_scan_options=pds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


@dataclass(frozen=True)
class PartSummary:
    """What one part, or several together, hold.

    Attributes:
        images: rows.
        errors: rows whose status is `error`.
        masks: masks in all rows.
        seconds: spent on all rows, summed over workers.
    """

    images: int = 0
    errors: int = 0
    masks: int = 0
    seconds: float = 0.0

    def __add__(self, other: PartSummary) -> PartSummary:
        return PartSummary(
            self.images + other.images,
            self.errors + other.errors,
            self.masks + other.masks,
            self.seconds + other.seconds,
        )


class LabelStore:
    """Reads and writes one label store, on any file system. Picklable; holds no rows.

    Args:
        uri: a local path or an address (`s3://…`).

    Raises:
        ConfigurationError: the address cannot be opened.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/") or "/"
        self.filesystem, self.root = resolve(self.uri)

    def __reduce__(self) -> tuple[type[LabelStore], tuple[str]]:
        return LabelStore, (self.uri,)

    @property
    def labels_path(self) -> str:
        """The folder of the parts, inside `filesystem`."""
        return f"{self.root}/labels"

    def exists(self) -> bool:
        """Whether any run has begun here."""
        info = self.filesystem.get_file_info(f"{self.root}/run.json")
        return bool(info.type == pafs.FileType.File)

    def parts(self) -> list[str]:
        """Paths of all parts inside `filesystem`, in a fixed order that is random with respect to the images."""
        selector = pafs.FileSelector(self.labels_path, allow_not_found=True)
        return sorted(
            info.path
            for info in self.filesystem.get_file_info(selector)
            if info.base_name.endswith(".parquet") and not info.base_name.startswith(".")
        )

    def write_part(self, rows: pa.Table, configuration: Mapping[str, Any] | None = None) -> PartSummary:
        """Add rows of `SCHEMA`, one part, whole or not at all.

        Args:
            rows: at least one.
            configuration: of the run, as in run.json; None for labels that no run made.

        Raises:
            OutputError: the place is full or not writable.
        """
        name = hashlib.sha256("\n".join(sorted(rows["image_id"].to_pylist())).encode()).hexdigest()[:32]
        return self._put(rows, configuration or {}, f"{self.labels_path}/part-{name}.parquet")

    def keep_rows(self, part: str, keep: Sequence[bool]) -> None:
        """Rewrite a part with the rows to keep only; a part that would be empty goes.

        Raises:
            OutputError: the place is full or not writable.
        """
        if any(keep):
            configuration = _read_metadata(self.filesystem, part).get("configuration") or self.configuration()
            rows = pds.dataset([part], schema=SCHEMA, format=_CHECKED, filesystem=self.filesystem).to_table()
            self._put(rows.filter(pa.array(keep)), configuration, part)
        else:
            self.filesystem.delete_file(part)

    def read_columns(self, part: str, columns: list[str]) -> pa.Table | None:
        """Some columns of one part; None where the file is damaged (a machine lost power while writing it)."""
        try:
            return pq.read_table(part, columns=columns, filesystem=self.filesystem, partitioning=None)
        except pa.ArrowInvalid:
            return None

    def summaries(self) -> dict[str, PartSummary]:
        """What every part holds, from the footers alone.

        Raises:
            InputError: a part is damaged or of a newer format.
        """
        parts = self.parts()
        with ThreadPoolExecutor(_FOOTER_READERS) as pool:
            return dict(zip(parts, pool.map(_read_summary, repeat(self.filesystem), parts), strict=True))

    def summary(self) -> PartSummary:
        """What the whole store holds. Raises as `summaries` does."""
        return sum(self.summaries().values(), PartSummary())

    def batches(self, columns: list[str] | None = None, batch_size: int = 64) -> Iterator[pa.RecordBatch]:
        """All rows, streaming: memory does not grow with the store.

        Args:
            columns: names; None for all.
            batch_size: the most rows at a time.

        Raises:
            InputError: there is no label store here, or a part is damaged.
        """
        yield from self.batches_of(self._some_parts(), columns, batch_size)

    def batches_of(
        self, parts: Sequence[str], columns: list[str] | None = None, batch_size: int = 64
    ) -> Iterator[pa.RecordBatch]:
        """The rows of some parts, streaming. Arguments and errors as in `batches`."""
        dataset = pds.dataset(list(parts), schema=SCHEMA, format=_CHECKED, filesystem=self.filesystem)
        try:
            yield from dataset.to_batches(
                columns=columns, batch_size=batch_size, batch_readahead=1, fragment_readahead=1
            )
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"a part of {self.uri} is damaged ({error}); rerun the labelling to mend it") from error

    def images(self, batch_size: int = 16) -> Iterator[LabelledImage]:
        """Every image of the store, streaming. Raises as `batches` does."""
        digest = settings_digest(self.configuration())
        for batch in self.batches(batch_size=batch_size):
            for image in from_batch(batch):
                if image.labels is not None:
                    image = replace(image, labels=with_mask_ids(image.labels, image.content_sha256, digest))
                yield image

    def configuration(self) -> dict[str, Any]:
        """How the labels were made, from any part, else from run.json; empty where neither says."""
        for part in self.parts():
            if (configuration := _read_metadata(self.filesystem, part).get("configuration")) is not None:
                return dict(configuration)
            break  # of an older format; so are the others
        if not self.exists():
            return {}
        with self.filesystem.open_input_file(f"{self.root}/run.json") as file:
            try:
                return dict(json.loads(file.read())["config"])
            except (ValueError, KeyError, TypeError):
                return {}

    def _some_parts(self) -> list[str]:
        parts = self.parts()
        if not parts and not self.exists():
            raise InputError(f"{self.uri} is not a label store: it has neither run.json nor labels/*.parquet")
        return parts

    def _put(self, rows: pa.Table, configuration: Mapping[str, Any], path: str) -> PartSummary:
        summary = _summarise(rows)
        fields = {"format": FORMAT_VERSION, **asdict(summary), "configuration": dict(configuration)}
        sink = pa.BufferOutputStream()
        pq.write_table(
            rows.select(SCHEMA.names).cast(SCHEMA).replace_schema_metadata({_METADATA_KEY: json.dumps(fields)}),
            sink,
            compression="zstd",
            write_page_checksum=True,
        )
        write_whole(self.filesystem, path, sink.getvalue())
        return summary


def _summarise(rows: pa.Table) -> PartSummary:
    return PartSummary(
        images=rows.num_rows,
        errors=pc.sum(pc.equal(rows["status"], "error")).as_py() or 0,
        masks=pc.sum(pc.list_value_length(rows["masks"])).as_py() or 0,
        seconds=round(pc.sum(rows["seconds"]).as_py() or 0.0, 3),
    )


def _read_summary(filesystem: pafs.FileSystem, part: str) -> PartSummary:
    fields = _read_metadata(filesystem, part)
    return PartSummary(**{name: fields[name] for name in PartSummary.__dataclass_fields__})


def _read_metadata(filesystem: pafs.FileSystem, part: str) -> dict[str, Any]:
    """What a part says of itself; raises as `LabelStore.summaries` does."""
    try:
        with filesystem.open_input_file(part) as file:
            metadata = pq.ParquetFile(file).schema_arrow.metadata or {}
    except pa.ArrowInvalid as error:
        raise InputError(f"{part} is damaged ({error}); rerun the labelling to mend it") from error
    if _METADATA_KEY not in metadata:
        raise InputError(f"{part} was not written by everymask; move it out of the label store")
    fields: dict[str, Any] = json.loads(metadata[_METADATA_KEY])
    if fields["format"] > FORMAT_VERSION:
        raise ConfigurationError(
            f"{part} has format {fields['format']}; this everymask reads up to {FORMAT_VERSION}: upgrade it"
        )
    return fields
