"""The page about a trained head, with pictures of what it learnt from and of what it finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_jobs.evaluation.figures import class_rows
from data_jobs.exemplars.scenes import SHOWN_SCENES
from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.embeddings import StoredEmbeddings
from everymask.classes.exemplars.manifest import Exemplar
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import classify_masks
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.report import (
    MeasuredScenes,
    ShownMask,
    draw_mask,
    most_certain,
    most_uncertain,
    training_report,
)
from everymask.classes.training.train import TrainingResult
from everymask.evaluation.semantic import SemanticFigures
from everymask.files.location import Location
from everymask.images.decoding import decode_image
from everymask.pictures.overlay import overlay

CERTAIN_PER_CLASS, UNCERTAIN = 3, 24
_SCENE_SIDE = 480

_Captioned = tuple[NDArray[np.uint8], str]


@dataclass(frozen=True)
class Pictured:
    """Pictures of a folder, and the embeddings of their masks."""

    folder: str
    pictures: Sequence[Exemplar]
    records: Sequence[StoredEmbeddings]

    def image(self, picture: Exemplar) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of one of them."""
        return decode_image((Path(self.folder) / picture.file).read_bytes())


def write_page(
    page: Path,
    facts: Sequence[tuple[str, str]],
    result: TrainingResult,
    exemplars: Pictured,
    scenes: Pictured,
    taxonomy: Taxonomy,
    masks: MaskConfig,
    measured: SemanticFigures | None,
) -> None:
    """Write the page.

    Args:
        page: where; its name is the head's.
        facts: (name, value) about the training.
        result: of the training.
        exemplars: what was learnt from.
        scenes: real pictures, perhaps none.
        taxonomy: the classes.
        masks: how masks were proposed.
        measured: figures on annotated scenes, if there are any.

    Raises:
        OutputError: the page cannot be written.
    """
    held_out = set(result.held_out.image_ids)
    shown = {record.image_id: record for record in exemplars.records if record.image_id in held_out}
    by_id = {item.bag_id: item for item in exemplars.pictures}
    head, classes = result.head, result.head.spec.classes

    def drawn(mask: ShownMask) -> _Captioned:
        item = by_id[mask.image_id]
        caption = f"{classes[mask.class_id]} {mask.probability:.0%}, uncertainty {mask.uncertainty:.2f} · {item.file}"
        return draw_mask(exemplars.image(item), shown[mask.image_id], mask, classes), caption

    html = training_report(
        f"Class head {page.with_suffix('.safetensors').name}",
        facts,
        result,
        [drawn(mask) for mask in most_certain(head, list(shown.values()), CERTAIN_PER_CLASS)],
        [drawn(mask) for mask in most_uncertain(head, list(shown.values()), UNCERTAIN)],
        list(_seen(head, scenes, masks)),
        Counter(taxonomy.class_of[item.origin.subject] for item in exemplars.pictures),
        None if measured is None else MeasuredScenes(measured.images, class_rows(measured)),
    )
    Location.at(str(page)).write(html.encode())


def _seen(head: ClassHead, scenes: Pictured, masks: MaskConfig) -> Iterator[_Captioned]:
    """Scenes with their labels, as `everymask label` makes them, and captions such as `street.jpg: 2 car, 1 person`."""
    by_id = {record.image_id: record for record in scenes.records}
    for scene in [scene for scene in scenes.pictures if scene.bag_id in by_id][:SHOWN_SCENES]:
        labels = classify_masks(by_id[scene.bag_id].embeddings, head, ClassesConfig(masks=masks))
        counts = Counter(str(mask.class_name) for mask in labels.masks)
        found = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
        yield overlay(scenes.image(scene), labels, max_side=_SCENE_SIDE), f"{scene.file}: {found}"
