"""The stage that labels: decodes, encodes and segments. Runs without Ray as well."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from data_jobs.labelling.ledger import MAX_STARTS, Bookkeeper
from data_jobs.labelling.model_spec import ModelFacts, ModelSpec
from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.classes.embeddings import MaskEmbeddings, StoredEmbeddings, write_embeddings
from everymask.classes.head import ClassHead, check_backbone, load_head
from everymask.classes.segmenter import config_for
from everymask.errors import ConfigurationError, EverymaskError, InputError, LabelFailure, UnforeseenError
from everymask.files.storage import one_line
from everymask.images.decoding import decode_image
from everymask.images.difference_hash import difference_hash
from everymask.labelling.label import label_images, label_images_keeping_masks
from everymask.labelling.methods.table import find_method
from everymask.labels.mask_ids import settings_digest, with_mask_ids
from everymask.labels.members import read_member
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
    backbone = load_backbone(spec.model, spec.checkpoint, spec.device)
    method = find_method(spec.config.method).implementation()
    if method.load is not None:
        method.load(spec.config, backbone.device)
    if spec.head is None:
        return backbone, None
    head = load_head(spec.head)
    check_backbone(head.spec, backbone.name, backbone.weights_sha256)
    return backbone, head


def model_facts(spec: ModelSpec) -> ModelFacts:
    """What is recorded of the model; raises as `load_model`."""
    return _facts(spec, *load_model(spec))


def _facts(spec: ModelSpec, backbone: PromptableBackbone, head: ClassHead | None) -> ModelFacts:
    return ModelFacts(
        backbone.name,
        str(backbone.device),
        backbone.weights_sha256,
        head.file_sha256 if head else None,
        find_method(spec.config.method).implementation().class_names(spec.config, head),
        head.spec.score_thresh if head else None,
    )


def check_facts(found: ModelFacts, expected: ModelFacts) -> None:
    """Refuse a model that is not the one the run began with.

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
    """Decodes, encodes and segments images. Each worker has one and loads the weights once; raises as `load_model`."""

    def __init__(self, spec: ModelSpec, ledger: Bookkeeper) -> None:
        torch.set_num_threads(spec.threads)
        self._spec = spec
        self._ledger = ledger
        self._backbone, self._head = load_model(spec)
        facts = _facts(spec, self._backbone, self._head)
        self._settings_sha256 = settings_digest(facts.settings(spec.config))
        # Ray hides what a constructor raises, and starts it again; what a call raises reaches the driver.
        self._facts = facts

    def __call__(self, batch: pa.Table) -> pa.Table:
        """`LOADED_SCHEMA` → rows of the label store, in order.

        Raises:
            ConfigurationError: the model is not the one the run began with.
        """
        if self._spec.expected is not None:
            check_facts(self._facts, self._spec.expected)
        rows = [_LoadedRow(**row) for row in batch.to_pylist()]
        starts = self._ledger.begin_batch([row.image_id for row in rows])
        together = [row for row, count in zip(rows, starts, strict=True) if count == 0]
        images = {image.image_id: image for image in self._label_and_book(together)}
        for row, count in zip(rows, starts, strict=True):
            if 0 < count < MAX_STARTS:
                self._ledger.begin_alone(row.image_id)
                images[row.image_id] = self._label_and_book([row])[0]
            elif count:
                images[row.image_id] = row.failed(f"given up: {MAX_STARTS} workers died while labelling this image")
                self._ledger.finish([row.image_id], errors=1)
        return to_table(images[row.image_id] for row in rows)

    def _label_and_book(self, rows: list[_LoadedRow]) -> list[ImageRow]:
        images = self._label(rows)
        if images:
            self._ledger.finish([image.image_id for image in images], sum(image.error is not None for image in images))
        return images

    def _label(self, rows: list[_LoadedRow]) -> list[ImageRow]:
        started = time.perf_counter()
        decoded = [self._decode(row) for row in rows]
        pixels = [image for image in decoded if isinstance(image, np.ndarray)]
        answers = iter(self._segment(pixels))
        results = [next(answers) if isinstance(image, np.ndarray) else ImageResult(image) for image in decoded]
        self._keep_masks(rows, results)
        seconds = (time.perf_counter() - started) / max(len(rows), 1)
        return [
            self._row(row, picture, result.labels, seconds)
            for row, picture, result in zip(rows, decoded, results, strict=True)
        ]

    def _row(
        self,
        row: _LoadedRow,
        picture: NDArray[np.uint8] | InputError,
        result: ImageLabels | LabelFailure,
        seconds: float,
    ) -> ImageRow:
        dhash = difference_hash(picture) if isinstance(picture, np.ndarray) else None
        if not isinstance(result, ImageLabels):
            return replace(row.failed(str(result), seconds), dhash=dhash)
        labels = with_mask_ids(result, row.content_sha256, self._settings_sha256)
        return replace(row.labelled(labels, seconds), dhash=dhash)

    def _keep_masks(self, rows: list[_LoadedRow], answers: list[ImageResult]) -> None:
        """Before the labels: an image with a row has its embeddings, wherever the job is killed."""
        records = [
            StoredEmbeddings(row.image_id, row.uri, row.content_sha256 or "", answer.masks)
            for row, answer in zip(rows, answers, strict=True)
            if answer.masks is not None
        ]
        if records and self._spec.save_embeddings is not None:
            assert self._head is not None
            masks = config_for(self._head.spec, self._spec.config.classes).masks
            write_embeddings(self._spec.save_embeddings, records, masks)

    def _decode(self, row: _LoadedRow) -> NDArray[np.uint8] | InputError:
        if row.data is None:
            return InputError(row.error or "no bytes")
        try:
            return decode_image(row.data, self._spec.limits)
        except InputError as error:
            return error

    def _segment(self, images: list[NDArray[np.uint8]]) -> list[ImageResult]:
        if not images:
            return []
        try:
            return self._answers(images)
        except torch.AcceleratorError:
            # The GPU context is lost with this process; the ledger makes sure that this ends.
            logger.exception("the accelerator failed; this worker ends and is replaced")
            os._exit(1)
        except EverymaskError:
            raise
        except Exception as error:  # one image the library did not foresee must not end a run of a million
            if len(images) > 1:
                return [answer for image in images for answer in self._segment([image])]
            logger.exception("labelling failed")
            reason = f"labelling failed unexpectedly ({type(error).__name__}: {one_line(error)})"
            return [ImageResult(UnforeseenError(reason))]

    def _answers(self, images: list[NDArray[np.uint8]]) -> list[ImageResult]:
        config = self._spec.config
        if self._spec.save_embeddings is None or self._head is None:
            labelled = label_images(self._backbone, images, config, self._head)
            return [ImageResult(labels) for labels in labelled]
        with_masks = label_images_keeping_masks(self._backbone, images, config, self._head)
        return [ImageResult(*answer) if isinstance(answer, tuple) else ImageResult(answer) for answer in with_masks]


@dataclass(frozen=True, slots=True)
class ImageResult:
    """Labels of one image, or why there are none; and its mask embeddings where they are kept."""

    labels: ImageLabels | LabelFailure
    masks: MaskEmbeddings | None = None


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
