"""The stage that labels: decodes, encodes and segments. Runs without Ray as well."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import pyarrow as pa
import torch

from data_jobs.labelling.finished import Finished
from data_jobs.labelling.ledger import MAX_STARTS, Bookkeeper, Done, Memory
from data_jobs.labelling.model_spec import ModelFacts, ModelSpec
from data_jobs.labelling.room import Room
from data_jobs.labelling.spent import BusyClock, WallClock
from everymask.backbone.memory import held_bytes
from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.classes.embeddings import StoredEmbeddings, write_embeddings
from everymask.classes.head import ClassHead, check_backbone, load_head
from everymask.classes.segmenter import config_for
from everymask.errors import ConfigurationError, InputError
from everymask.labelling.label import ImageLabeller
from everymask.labelling.methods.table import find_method
from everymask.labelling.overlap import File, FileLabels, OverlappedLabeller
from everymask.labelling.turns import StageSeconds
from everymask.labels.mask_ids import settings_digest, with_mask_ids
from everymask.labels.members import read_member
from everymask.labels.overview import error_kind
from everymask.labels.rows import ImageRow, to_table
from everymask.records import ImageLabels

logger = logging.getLogger(__name__)


def load_model(spec: ModelSpec) -> tuple[PromptableBackbone, ClassHead | None]:
    """The backbone, and the class head if the method needs one.

    Raises:
        CheckpointError: the weights cannot be used.
        HeadMismatchError: the class head belongs to another backbone.
        ConfigurationError: unknown model or device, no such head.
    """
    backbone = load_backbone(spec.model, spec.checkpoint, spec.device, spec.precision)
    method = find_method(spec.config.method).implementation()
    if method.load is not None:
        method.load(spec.config, backbone)
    if spec.head is None:
        return backbone, None
    head = load_head(spec.head)
    check_backbone(head.spec, backbone.name, backbone.weights_sha256)
    return backbone, head


def model_facts(spec: ModelSpec) -> ModelFacts:
    """The model's facts for the record; raises as `load_model`."""
    return _facts(spec, *load_model(spec))


def _facts(spec: ModelSpec, backbone: PromptableBackbone, head: ClassHead | None) -> ModelFacts:
    return ModelFacts(
        backbone.name,
        str(backbone.device),
        backbone.weights_sha256,
        head.file_sha256 if head else None,
        find_method(spec.config.method).implementation().class_names(spec.config, head),
        head.spec.score_thresh if head else None,
        spec.precision,
        backbone.precision,
    )


def check_facts(found: ModelFacts, expected: ModelFacts) -> None:
    """Refuse a model other than the one the run began with.

    Raises:
        ConfigurationError: its file, or that of the class head, has been replaced since.
    """
    for what, now, before in (
        (f"the weights of {found.model}", found.weights_sha256, expected.weights_sha256),
        ("the class head", found.head_sha256, expected.head_sha256),
    ):
        if now != before:
            raise ConfigurationError(
                f"{what} changed while the run was going on: sha256 {str(now)[:12]}, but the run began with "
                f"{str(before)[:12]}; finished rows are kept: put the former file back and run the same command again, "
                "or choose another --output"
            )


class Labeller:
    """Decodes, encodes and segments images. Each worker has one and loads the weights once; raises as `load_model`.

    On a GPU several threads may call it at once, so that their images follow each other without a gap.
    """

    def __init__(self, spec: ModelSpec, ledger: Bookkeeper, together: int = 1, at_once: int | None = None) -> None:
        """
        Args:
            spec: the model and what is done with it.
            ledger: what is in work.
            together: images encoded together.
            at_once: as `OverlappedLabeller` takes it.
        """
        self._wall = WallClock()  # from here on, since a GPU is paid for while it gets its weights
        torch.set_num_threads(spec.threads)
        self._spec = spec
        self._ledger = ledger
        self._together = together
        self._backbone, self._head = load_model(spec)
        facts = _facts(spec, self._backbone, self._head)
        self._settings_sha256 = settings_digest(facts.settings(spec.config))
        # Ray hides what a constructor raises, and starts it again; what a call raises reaches the driver.
        self._facts = facts
        self._labeller: LabelsFiles = OverlappedLabeller(
            self._backbone,
            ImageLabeller(spec.config, self._head, keep_masks=spec.save_embeddings is not None),
            limits=spec.limits,
            together=together,
            at_once=at_once,
        )
        self._room = Room()
        self._clock = BusyClock()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """`LOADED_SCHEMA` → rows of the label store, in order.

        Raises:
            ConfigurationError: the model is not the one the run began with.
        """
        if self._spec.expected is not None:
            check_facts(self._facts, self._spec.expected)
        image_ids = batch["image_id"].to_pylist()
        images: dict[str, ImageRow] = {}
        with self._room.together():
            starts = self._ledger.begin_batch(image_ids)
            for image in self._label_and_book(self._never_started(batch, starts)):
                images[image.image_id] = image
        for place, before in enumerate(starts):
            if before:
                (row,) = _rows(batch.slice(place, 1))
                images[row.image_id] = self._again(row, before)
        self._ledger.settle()
        return to_table(images[image_id] for image_id in image_ids)

    def _never_started(self, batch: pa.Table, starts: list[int]) -> Iterator[list[_LoadedRow]]:
        """Groups of rows to encode together."""
        for first in range(0, len(batch), self._together):
            some = starts[first : first + self._together]
            if not all(some):
                # Not all at once: the files of a batch may take gigabytes.
                rows = _rows(batch.slice(first, self._together))
                yield [row for row, before in zip(rows, some, strict=True) if not before]

    def _again(self, row: _LoadedRow, starts: int) -> ImageRow:
        """Label an image that was in work when its worker died, with no other in work that it could take with it."""
        if starts >= MAX_STARTS:
            failed = row.failed(f"given up: {MAX_STARTS} workers died while labelling this image")
            self._ledger.finish([row.image_id], Done(errors=[error_kind(failed.error)]))
            return failed
        with self._room.alone():
            self._ledger.begin_alone(row.image_id)
            (image,) = self._label_and_book([[row]])
        return image

    def _label_and_book(self, groups: Iterable[list[_LoadedRow]]) -> Iterator[ImageRow]:
        begun: deque[tuple[list[_LoadedRow], float]] = deque()
        finished = Finished(self._tell)

        def files() -> Iterator[list[File]]:
            for rows in groups:
                begun.append((rows, self._clock.now()))
                yield [row.file() for row in rows]

        try:
            for found in self._labeller.label(files()):
                rows, began = begun.popleft()
                self._keep_masks(rows, found)
                busy = self._clock.since(began)
                images = [self._row(row, file, busy / len(rows)) for row, file in zip(rows, found, strict=True)]
                finished.add([row.image_id for row in rows], _done(rows, images, found))
                yield from images
            finished.tell()
        except torch.AcceleratorError:
            # The GPU context is lost with this process; the ledger makes sure that this ends.
            logger.exception("the accelerator failed; this worker ends and is replaced")
            os._exit(1)

    def _tell(self, image_ids: list[str], done: Done) -> None:
        self._ledger.finish(image_ids, done + Done(seconds={"worker": self._wall.lap()}), self._memory())

    def _memory(self) -> Memory:
        device = self._backbone.device
        return Memory(f"{os.uname().nodename}:{os.getpid()}", device.type, held_bytes(device))

    def _row(self, row: _LoadedRow, file: FileLabels, seconds: float) -> ImageRow:
        result = file.result.labels
        if not isinstance(result, ImageLabels):
            return replace(row.failed(str(result), seconds), dhash=file.dhash)
        labels = with_mask_ids(result, row.content_sha256, self._settings_sha256)
        return replace(row.labelled(labels, seconds), dhash=file.dhash)

    def _keep_masks(self, rows: list[_LoadedRow], files: list[FileLabels]) -> None:
        """Written before the labels, so that an image with a row has its embeddings, wherever the job is killed."""
        records = [
            StoredEmbeddings(row.image_id, row.uri, row.content_sha256 or "", file.result.masks)
            for row, file in zip(rows, files, strict=True)
            if file.result.masks is not None
        ]
        if records and self._spec.save_embeddings is not None:
            assert self._head is not None
            masks = config_for(self._head.spec, self._spec.config.classes).masks
            write_embeddings(self._spec.save_embeddings, records, masks)


class LabelsFiles(Protocol):
    """What the labeller needs of `OverlappedLabeller`."""

    def label(self, groups: Iterable[Sequence[File]]) -> Iterator[list[FileLabels]]: ...


@dataclass(frozen=True, slots=True)
class _LoadedRow:
    """A row of `LOADED_SCHEMA`."""

    image_id: str
    uri: str
    member: dict[str, Any] | None
    file_size: int | None
    file_version: str | None
    error: str | None
    data: bytes | None
    content_sha256: str | None

    def file(self) -> File:
        """The image's bytes, or why there are none."""
        return InputError(self.error or "no bytes") if self.data is None else self.data

    def labelled(self, labels: ImageLabels, seconds: float) -> ImageRow:
        return self._image(labels, None, seconds)

    def failed(self, error: str, seconds: float = 0.0) -> ImageRow:
        return self._image(None, error, seconds)

    def _image(self, labels: ImageLabels | None, error: str | None, seconds: float) -> ImageRow:
        return ImageRow(
            image_id=self.image_id,
            uri=self.uri,
            labels=labels,
            error=error,
            content_sha256=self.content_sha256,
            seconds=seconds,
            member=read_member(self.member),
            file_size=self.file_size,
            file_version=self.file_version,
        )


def _done(rows: list[_LoadedRow], images: list[ImageRow], files: list[FileLabels]) -> Done:
    spent = StageSeconds()
    for file in files:
        spent.add(file.spent)
    return Done(
        [error_kind(image.error) for image in images if image.error is not None],
        sum(len(image.labels.masks) for image in images if image.labels is not None),
        sum(len(row.data or b"") for row in rows),
        asdict(spent),
    )


def _rows(batch: pa.Table) -> list[_LoadedRow]:
    return [_LoadedRow(**row) for row in batch.to_pylist()]
