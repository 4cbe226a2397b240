"""The rows of the U-SAM paper's tables that are ours to measure, one command each, by its plain recipe.

    python benchmarks/paper_tables.py --table 1 --exemplars DIR --ground-truth VOC2012      U-SAM on PASCAL VOC
    python benchmarks/paper_tables.py --table 2 --exemplars DIR --ground-truth COCO         U-SAM on COCO
    python benchmarks/paper_tables.py --table 3 --exemplars DIR --ground-truth VOC2012      SAM + CLIP beside U-SAM
    python benchmarks/paper_tables.py --table 4 --exemplars DIR --ground-truth VOC2012      MIL alone, and distilled

The paper has a row for synthetic and one for crawled exemplars: run a table once with each. Its own figures are of SAM
ViT-H, the default here. Mask embeddings and the figures of every seed are kept in --work: given again, a command that
was killed goes on. Table 3 needs the weights of CLIP. Every table begins with
what labelling nothing gets; `--features token token+pooled` adds heads that read image features under the mask, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import tyro

from benchmarks.class_material import Material, Measured, is_voc, prepare, read_truth, taxonomy_of
from benchmarks.class_trials import OWN, Trial, TrialConfig, figure_row, over_seeds, summary
from everymask.backbone.embedding import embed_images
from everymask.backbone.protocol import ImageEmbedding
from everymask.classes.config import ClipConfig
from everymask.classes.features import FeatureKind
from everymask.classes.names import segment_names
from everymask.classes.recipes import PAPER_TRAINING, paper_classes
from everymask.classes.training.train import TrainingConfig
from everymask.errors import ConfigurationError, EverymaskError
from everymask.evaluation.doubt import DoubtFigures
from everymask.evaluation.figure_files import weights_of, write_figures
from everymask.evaluation.semantic import SemanticFigures, semantic_figures
from everymask.images.decoding import decode_image


@dataclass(frozen=True, kw_only=True)
class TableConfig(Measured):
    """Measure one table of the paper."""

    table: Literal[1, 2, 3, 4]
    """Number of the table."""
    model: str = "vit_h"
    """Backbone."""
    work: Path = Path("runs/benchmark-paper")
    """Where mask embeddings are kept."""
    features: tuple[FeatureKind, ...] = ("token",)
    """What heads read of a mask, one row each; the paper's heads read tokens."""
    json: Path | None = None
    """Also write the figures to this file, a row as soon as there is one."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """Table 3: CLIP. Its names are the classes of the exemplars."""


def trial_config(config: TableConfig) -> TrialConfig:
    """How its heads are trained and measured.

    Raises:
        ConfigurationError: the table is of the other ground truth.
    """
    wanted = {1: True, 2: False}.get(config.table)
    if wanted is not None and is_voc(config.ground_truth) != wanted:
        raise ConfigurationError(f"table {config.table} is measured on {'PASCAL VOC' if wanted else 'COCO instances'}")
    return TrialConfig(
        **{item.name: getattr(config, item.name) for item in fields(Measured)},
        classes=paper_classes(),
        training=TrainingConfig(**PAPER_TRAINING),
    )


def clip_config(config: TableConfig, classes: tuple[str, ...]) -> ClipConfig:
    """CLIP's settings: it looks at the masks that U-SAM beside it does, all of the grid."""
    return replace(config.clip, names=classes, masks=trial_config(config).classes.masks)


def with_clip(material: Material, config: TableConfig) -> SemanticFigures:
    """SAM + CLIP on the images."""
    taxonomy = taxonomy_of(material.exemplars)
    truth, classes, folder = read_truth(config.ground_truth, config.split, taxonomy, config.half)
    clip = clip_config(config, classes)
    labels = {}
    for name in truth:
        image = decode_image((folder / name).read_bytes())
        (embedding,) = embed_images(material.backbone, [image], keep_picture=True)
        assert isinstance(embedding, ImageEmbedding)
        labels[name] = segment_names(material.backbone, embedding, clip)
    return semantic_figures(labels, truth, classes)


def rows(
    config: TableConfig, tell: Callable[[dict[str, dict[str, Any]]], None] = lambda found: None
) -> dict[str, dict[str, Any]]:
    """The table's rows by name; `tell` gets those so far as soon as there is another."""
    torch.set_num_threads(config.threads)
    chosen = trial_config(config)
    material = prepare(chosen, chosen.classes)
    taxonomy = taxonomy_of(material.exemplars)
    truth, classes, _ = read_truth(config.ground_truth, config.split, taxonomy, config.half)
    found = {"nothing labelled": _without_head(semantic_figures({}, truth, classes))}
    tell(found)
    if config.table == 3:
        found["SAM + CLIP"] = _without_head(with_clip(material, config))
        tell(found)
    measured: dict[str, dict[str, Any]] = {}
    for features in config.features:
        measured[features] = over_seeds(
            material,
            taxonomy,
            chosen,
            features,
            lambda so_far, features=features: tell(found | head_rows({**measured, features: so_far}, config.table)),
        )
    return found | head_rows(measured, config.table)


def head_rows(measured: dict[str, dict[str, Any]], table: int) -> dict[str, dict[str, Any]]:
    """Rows of heads, from their figures by what they read of a mask."""
    kinds = {"mil": "MIL", "distilled": "U-SAM"} if table == 4 else {"distilled": "U-SAM"}
    return {
        title if features == "token" else f"{title}, `{features}`": figure_row(figures[kind], figures[kind])
        for features, figures in measured.items()
        for kind, title in kinds.items()
    }


def _without_head(figures: SemanticFigures) -> dict[str, Any]:
    """A row of labels that no head of ours made: what they were without a threshold, and of doubt, is not known."""
    no_doubt = DoubtFigures(wrong_name=None, named=0, wrong=0, missed_object=None, background=0, missed=0)
    one = summary([Trial({OWN: figures}, figures, no_doubt)])
    return figure_row(one, one) | {"mAP50-all": "-", "mAP50-all-10": "-"}


def lines(found: dict[str, dict[str, Any]]) -> list[str]:
    """The rows as text."""
    shown = []
    for name, row in found.items():
        whole = f"mIoU {row['mIoU']:>11} %  mAP50 {row['mAP50']:>11} %  without a threshold {row['mAP50-all']:>11} %"
        shown.append(f"{name:<24}{whole}")
        for one in (column.removeprefix("IoU:") for column in row if column.startswith("IoU:")):
            iou, ap50 = row[f"IoU:{one}"], row[f"AP50:{one}"]
            shown.append(f"  {one:<22}IoU {iou:>6} %  AP50 without a threshold {ap50:>6} %")
    return shown


def main() -> None:
    config = tyro.cli(TableConfig, description=__doc__)
    try:
        weights = weights_of([config.model], config.checkpoint)

        def write(found: dict[str, dict[str, Any]]) -> None:
            if config.json is not None:
                write_figures(config.json, found, weights)

        print("\n".join(lines(rows(config, write))))
    except EverymaskError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
