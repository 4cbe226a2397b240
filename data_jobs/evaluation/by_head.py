"""Figures from stored mask embeddings and a class head: AP without a threshold, and doubt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from data_jobs.evaluation.figures import Figures
from everymask.classes.config import ClassesConfig
from everymask.classes.embeddings import MaskEmbeddings, open_embeddings
from everymask.classes.head import load_head
from everymask.classes.segmenter import classify_masks
from everymask.errors import InputError
from everymask.evaluation.doubt import doubt_figures
from everymask.evaluation.ground_truth import ClassTruth
from everymask.evaluation.semantic import semantic_figures


def with_head_figures(
    figures: Figures,
    embeddings: str,
    head_file: str,
    truth: Mapping[str, ClassTruth],
    classes: tuple[str, ...],
    name_of: Callable[[str], str],
) -> Figures:
    """Figures of classes with three more columns: AP50 without a threshold, and both doubts' AUROC in the row `mean`.

    Args:
        figures: rows by class, `mean` first.
        embeddings: mask embeddings of the images.
        head_file: the class head.
        truth: by image name.
        classes: to measure.
        name_of: an image's name by its id in the embeddings.

    Raises:
        ConfigurationError: the head or the embeddings cannot be read.
        HeadMismatchError: they are of different backbones.
        InputError: no annotated image has embeddings.
    """
    head = load_head(head_file)
    images: dict[str, MaskEmbeddings] = {}
    for shard in open_embeddings(embeddings)[0]:
        if any(name_of(image_id) in truth for image_id in shard.image_ids):
            images |= {name_of(record.image_id): record.embeddings for record in shard.read()}
    images = {name: masks for name, masks in images.items() if name in truth}
    if not images:
        raise InputError(f"{embeddings} holds no annotated image; give the mask embeddings of the labelled images")
    all_named = {name: classify_masks(masks, head, ClassesConfig(score_thresh=0.0)) for name, masks in images.items()}
    found = semantic_figures(all_named, {name: truth[name] for name in images}, classes)
    doubt = doubt_figures(head, images, truth, classes)
    added: dict[str, dict[str, Any]] = {
        name: {"AP50, no threshold": row.ap50, "AUROC wrong name": None, "AUROC missed object": None}
        for name, row in found.classes.items()
    }
    added["mean"] = {
        "AP50, no threshold": found.map50,
        "AUROC wrong name": doubt.wrong_name,
        "AUROC missed object": doubt.missed_object,
    }
    return {name: row | added[name] for name, row in figures.items()}
