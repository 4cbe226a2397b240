"""The rows of the U-SAM paper's tables that are ours to measure, one command each, by its plain recipe.

    python benchmarks/paper_tables.py --table 1 --exemplars DIR --ground-truth VOC2012      U-SAM on PASCAL VOC
    python benchmarks/paper_tables.py --table 2 --exemplars DIR --ground-truth COCO         U-SAM on COCO
    python benchmarks/paper_tables.py --table 3 --exemplars DIR --ground-truth VOC2012      SAM + CLIP beside U-SAM
    python benchmarks/paper_tables.py --table 4 --exemplars DIR --ground-truth VOC2012      MIL alone, and distilled

The paper has a row for synthetic and one for crawled exemplars: run a table once with each. Its own figures are of SAM
ViT-H, the default here. Mask embeddings are kept in --work. Table 3 needs the weights of CLIP. Every table begins with
what labelling nothing gets; `--features token token+pooled` adds heads that read image features under the mask, too.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import tyro

from benchmarks.class_material import Material, Measured, is_voc, prepare, read_truth, taxonomy_of
from benchmarks.classes import BenchmarkConfig, over_seeds
from everymask.backbone.embedding import embed_images
from everymask.backbone.protocol import ImageEmbedding
from everymask.classes.config import ClipConfig
from everymask.classes.features import FeatureKind
from everymask.classes.names import segment_names
from everymask.classes.recipes import PAPER_TRAINING, paper_classes
from everymask.classes.training.train import TrainingConfig
from everymask.errors import ConfigurationError, EverymaskError
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
    clip: ClipConfig = field(default_factory=ClipConfig)
    """Table 3: CLIP. Its names are the classes of the exemplars."""


def benchmark_config(config: TableConfig) -> BenchmarkConfig:
    """The settings of benchmarks/classes.py for it.

    Raises:
        ConfigurationError: the table is of the other ground truth.
    """
    wanted = {1: True, 2: False}.get(config.table)
    if wanted is not None and is_voc(config.ground_truth) != wanted:
        raise ConfigurationError(f"table {config.table} is measured on {'PASCAL VOC' if wanted else 'COCO instances'}")
    return BenchmarkConfig(
        **{item.name: getattr(config, item.name) for item in fields(Measured)},
        features=config.features,
        classes=paper_classes(),
        training=TrainingConfig(**PAPER_TRAINING),
    )


def clip_config(config: TableConfig, classes: tuple[str, ...]) -> ClipConfig:
    """CLIP's settings: it looks at the masks that U-SAM beside it does, all of the grid."""
    return replace(config.clip, names=classes, masks=benchmark_config(config).classes.masks)


def with_clip(material: Material, config: TableConfig) -> SemanticFigures:
    """SAM + CLIP on the images."""
    taxonomy = taxonomy_of(material.exemplars)
    truth, classes, folder = read_truth(config.ground_truth, config.split, taxonomy)
    clip = clip_config(config, classes)
    labels = {}
    for name in truth:
        image = decode_image((folder / name).read_bytes())
        (embedding,) = embed_images(material.backbone, [image], keep_picture=True)
        assert isinstance(embedding, ImageEmbedding)
        labels[name] = segment_names(material.backbone, embedding, clip)
    return semantic_figures(labels, truth, classes)


def rows(config: TableConfig) -> list[str]:
    """The table as lines of text."""
    torch.set_num_threads(config.threads)
    chosen = benchmark_config(config)
    material = prepare(chosen, chosen.classes)
    taxonomy = taxonomy_of(material.exemplars)
    truth, classes, _ = read_truth(config.ground_truth, config.split, taxonomy)
    nothing = semantic_figures({}, truth, classes)
    lines = [f"nothing labelled        mIoU {nothing.miou:7.2%}          mAP50 {nothing.map50:7.2%}"]
    if config.table == 3:
        figures = with_clip(material, config)
        lines.append(f"SAM + CLIP              mIoU {figures.miou:7.2%}          mAP50 {figures.map50:7.2%}")
    for features in config.features:
        measured = over_seeds(material, taxonomy, chosen, features)
        read = "" if features == "token" else f", {features}"
        if config.table == 4:
            lines.append(_row(f"MIL{read}", measured["mil"]))
        lines.append(_row(f"U-SAM{read}", measured["distilled"]))
        for name, iou in measured["distilled"]["iou"].items():
            ap50 = measured["distilled"]["ap50"][name]
            if iou is not None:
                lines.append(f"  {name:<22}IoU {iou:7.1%}" + ("" if ap50 is None else f"            AP50 {ap50:7.1%}"))
    return lines


def _row(name: str, figures: dict[str, Any]) -> str:
    miou, map50 = figures["miou"], figures["map50"]
    return (
        f"{name:<24}mIoU {miou['mean']:7.2%} ± {miou['deviation']:.2%}  mAP50 {map50['mean']:7.2%} ± "
        f"{map50['deviation']:.2%}"
    )


def main() -> None:
    try:
        print("\n".join(rows(tyro.cli(TableConfig, description=__doc__))))
    except EverymaskError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
