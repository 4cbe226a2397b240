"""Tables of AP^e: every picture labelled in every row's way, by several processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from data_jobs.evaluation.config import EntitiesConfig, MeasuredModel
from data_jobs.evaluation.figures import Figures, entity_row, interval
from data_jobs.evaluation.pictures import EntityPicture, entity_pictures
from data_jobs.runtime.actors import connect
from data_jobs.runtime.progress import ProgressLine
from everymask.backbone.devices import device_for
from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.errors import ConfigurationError
from everymask.evaluation.ablation import AblationRow, label_rows, table_rows
from everymask.evaluation.entity_ap import match_entities
from everymask.images.decoding import decode_image
from everymask.records import ImageLabels
from everymask.research.oracle import ORACLE_ERRORS, OracleBackbone, annotated_scene

RowLabels = dict[str, ImageLabels]


def measure_table(config: EntitiesConfig) -> Figures:
    """AP^e of every row with both scores: `ap` by the labels' own, `ap_iou` by plain predicted IoU.

    Raises:
        ConfigurationError: ground truth or a model that cannot be used.
        InputError: a picture that cannot be read, or is of another size than its annotation.
    """
    rows = table_rows(config.table, config.entities, config.amg)
    pictures = entity_pictures(config)
    truth = {picture.name: picture.truth for picture in pictures}
    figures: Figures = {}
    for model in config.models:
        labels: dict[str, RowLabels] = {row.name: {} for row in rows}
        for name, found in _labelled(config, model, pictures, rows):
            for row_name, row_labels in found.items():
                labels[row_name][name] = row_labels
        for row in rows:
            name = f"{row.name}, {model}" if len(config.models) > 1 else row.name
            figures[name] = _figures(labels[row.name], truth, row, config)
    return figures


def _figures(labels: RowLabels, truth: Mapping[str, Any], row: AblationRow, config: EntitiesConfig) -> dict[str, Any]:
    matches = match_entities(labels, truth, row.overlaps)
    plain = match_entities({name: _by_predicted_iou(image) for name, image in labels.items()}, truth, row.overlaps)
    options = config.entity_figures
    by_plain = {"ap_iou": plain.figures().ap, **interval("ap_iou", plain, options.bootstrap)}
    return entity_row(matches, options.max_dets, options.bootstrap) | by_plain


def _by_predicted_iou(labels: ImageLabels) -> ImageLabels:
    """The same masks, ranked by the model's own estimate."""
    masks = (replace(mask, score=min(max(mask.predicted_iou, 0.0), 1.0)) for mask in labels.masks)
    return replace(labels, masks=tuple(masks))


@dataclass(frozen=True)
class _AblationLabeller:
    """Labels pictures in every row's way; picklable, loads weights where it runs."""

    config: EntitiesConfig
    model: MeasuredModel
    rows: Sequence[AblationRow]

    def load(self) -> PromptableBackbone | None:
        """The backbone; None for the oracle, which is made for each picture."""
        if self.model == "oracle":
            return None
        return load_backbone(self.model, self.config.checkpoint, self.config.device)

    def label(self, loaded: PromptableBackbone | None, picture: EntityPicture) -> RowLabels:
        image = decode_image(picture.path.read_bytes())
        if image.shape[:2] != picture.truth.size_hw:
            raise ConfigurationError(
                f"{picture.path} has {image.shape[1]} x {image.shape[0]} pixels, its annotation "
                f"{picture.truth.size_hw[1]} x {picture.truth.size_hw[0]}; give the pictures that were annotated"
            )
        backbone = loaded or self._oracle(image, picture)
        return label_rows(backbone, backbone.embed([image])[0], self.rows)

    def _oracle(self, image: NDArray[np.uint8], picture: EntityPicture) -> OracleBackbone:
        return OracleBackbone([annotated_scene(image, picture.truth)], ORACLE_ERRORS[self.config.oracle])


class _Worker:
    """A labeller in a process of its own."""

    def __init__(self, labeller: _AblationLabeller) -> None:
        torch.set_num_threads(1)
        self._labeller = labeller
        self._backbone = labeller.load()

    def label(self, picture: EntityPicture) -> tuple[str, RowLabels]:
        return picture.name, self._labeller.label(self._backbone, picture)


def _labelled(
    config: EntitiesConfig, model: MeasuredModel, pictures: Sequence[EntityPicture], rows: Sequence[AblationRow]
) -> Iterator[tuple[str, RowLabels]]:
    """Labels of every picture, in the order in which they are finished, under a progress line."""
    labeller = _AblationLabeller(config, model, rows)
    progress = ProgressLine(len(pictures))
    progress.update(0, 0)
    answers = _in_this_process(labeller, pictures) if config.workers == 1 else _by_workers(labeller, pictures)
    for finished, answer in enumerate(answers, start=1):
        progress.update(finished, 0)
        yield answer
    progress.close()


def _in_this_process(labeller: _AblationLabeller, pictures: Sequence[EntityPicture]) -> Iterator[tuple[str, RowLabels]]:
    worker = _Worker(labeller)
    yield from map(worker.label, pictures)


def _by_workers(labeller: _AblationLabeller, pictures: Sequence[EntityPicture]) -> Iterator[tuple[str, RowLabels]]:
    """Each of the Ray actors labels one picture at a time; the next one goes to whoever is done first."""
    connect()
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus = 0 if labeller.config.device == "cpu" or labeller.model == "oracle" else int(resources.get("GPU", 0))
    # `connect` gives a cluster of its own two CPUs more than there are cores.
    wanted = labeller.config.workers or gpus or max(1, int(resources.get("CPU", 1)) - 2)
    count = min(wanted, len(pictures))
    share = {"num_cpus": 1.0, "num_gpus": min(1.0, gpus / count)}
    device = device_for(labeller.config.device, share["num_gpus"])
    labeller = replace(labeller, config=replace(labeller.config, device=device))
    actor = cast(Any, ray.remote(**share)(_Worker))  # type: ignore[call-overload]  # Ray's hints want literal options
    actors = [actor.remote(labeller) for _ in range(count)]
    waiting = list(reversed(pictures))
    busy = {one.label.remote(waiting.pop()): one for one in actors}
    while busy:
        done, _ = ray.wait(list(busy), num_returns=1)
        free = busy.pop(done[0])
        if waiting:
            busy[free.label.remote(waiting.pop())] = free
        yield ray.get(done[0])
