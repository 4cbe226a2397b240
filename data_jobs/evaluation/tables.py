"""Tables of AP^e: several processes label every picture in every row's way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_jobs.evaluation.config import EntitiesConfig, MeasuredModel
from data_jobs.evaluation.figures import Figures, entity_row, interval
from data_jobs.evaluation.pictures import EntityPicture, annotated_image, entity_pictures
from data_jobs.evaluation.workers import label_pictures
from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.evaluation.ablation import AblationRow, label_rows, table_rows
from everymask.evaluation.entity_ap import match_entities
from everymask.records import ImageLabels
from everymask.research.oracle import ORACLE_ERRORS, OracleBackbone, annotated_scene

RowLabels = dict[str, ImageLabels]


def measure_table(config: EntitiesConfig) -> Figures:
    """Each row's AP^e by two scores: `ap` by the labels' own, `ap_iou` by plain predicted IoU.

    Raises:
        ConfigurationError: unusable ground truth or model.
        InputError: a picture that is unreadable, or of another size than its annotation.
    """
    rows = table_rows(config.table, config.entities, config.amg)
    pictures = entity_pictures(config)
    truth = {picture.name: picture.truth for picture in pictures}
    figures: Figures = {}
    for model in config.models:
        labels: dict[str, RowLabels] = {row.name: {} for row in rows}
        labeller = _AblationLabeller(config, model, rows)
        for name, found in label_pictures(labeller, pictures, config.workers):
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
    masks = (replace(mask, score=min(max(mask.estimate, 0.0), 1.0)) for mask in labels.masks)
    return replace(labels, masks=tuple(masks))


@dataclass(frozen=True)
class _AblationLabeller:
    """Labels pictures in every row's way. Picklable; loads weights where it runs."""

    config: EntitiesConfig
    model: MeasuredModel
    rows: Sequence[AblationRow]

    @property
    def device(self) -> str:
        """The model's device; cpu for the oracle."""
        return "cpu" if self.model == "oracle" else self.config.device

    def on(self, device: str) -> _AblationLabeller:
        return replace(self, config=replace(self.config, device=device))

    def load(self) -> PromptableBackbone | None:
        """The backbone; None for the oracle, which is made for each picture."""
        if self.model == "oracle":
            return None
        return load_backbone(self.model, self.config.checkpoint, self.config.device)

    def label(self, loaded: PromptableBackbone | None, picture: EntityPicture) -> tuple[str, RowLabels]:
        image = annotated_image(picture.path, picture.truth.size_hw)
        backbone = loaded or self._oracle(image, picture)
        return picture.name, label_rows(backbone, backbone.embed([image])[0], self.rows)

    def _oracle(self, image: NDArray[np.uint8], picture: EntityPicture) -> OracleBackbone:
        return OracleBackbone([annotated_scene(image, picture.truth)], ORACLE_ERRORS[self.config.oracle])
