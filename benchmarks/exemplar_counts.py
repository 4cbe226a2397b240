r"""How many exemplars a class needs: heads that learnt from the first so many of each class, on annotated images.

    python benchmarks/voc_boxes.py --ground-truth VOC2012 --half first --per-class 60 --output boxes.json \
        --classes airplane bird boat car cat chair dog horse motorcycle person
    everymask exemplars --source boxes --boxes boxes.json --input VOC2012/JPEGImages --output DIR \
        --classes airplane,bird,boat,car,cat,chair,dog,horse,motorcycle,person
    python benchmarks/exemplar_counts.py --exemplars DIR --ground-truth VOC2012 --split train --half second

Mask embeddings and the figures of every seed are kept in --work: given again, a command that was killed goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import tyro

from benchmarks.class_material import Material, prepare, taxonomy_of, with_crops
from benchmarks.class_trials import TrialConfig, figure_row, over_seeds
from everymask.classes.features import FeatureKind
from everymask.evaluation.figure_files import weights_of, write_figures


@dataclass(frozen=True, kw_only=True)
class CountsConfig(TrialConfig):
    """Measure heads of several numbers of exemplars."""

    counts: tuple[int, ...] = (5, 20, 60)
    """Exemplars a class, a row each; a class that has fewer gives all that it has."""
    features: FeatureKind = "token+pooled"
    """What the heads read."""
    json: Path | None = None
    """Also write the figures to this file, a row as soon as there is one."""


def with_first(material: Material, count: int) -> Material:
    """The same with at most the first `count` exemplars of each class."""
    taken: dict[str, int] = {}
    kept: list[int] = []
    for place, item in enumerate(material.exemplars):
        subject = item.origin.subject
        taken[subject] = taken.get(subject, 0) + 1
        if taken[subject] <= count:
            kept.append(place)
    exemplars, bags = ([each[place] for place in kept] for each in (material.exemplars, material.bags))
    return replace(material, exemplars=exemplars, bags=bags)


def rows(config: CountsConfig, tell: Callable[[dict[str, dict[str, Any]]], None]) -> dict[str, dict[str, Any]]:
    """The table's rows by name; `tell` gets those so far after each seed."""
    torch.set_num_threads(config.threads)
    if "crop" in config.features:
        config = replace(config, classes=with_crops(config.classes))
    material = prepare(replace(config, per_class=max(config.counts)), config.classes)
    taxonomy = taxonomy_of(material.exemplars)
    found: dict[str, dict[str, Any]] = {}
    for count in config.counts:
        first = with_first(material, count)

        def so_far(figures: dict[str, Any], count: int = count, exemplars: int = len(first.exemplars)) -> None:
            found[f"{count} a class"] = {"exemplars": exemplars, **row(figures["distilled"])}
            tell(found)

        over_seeds(first, taxonomy, config, config.features, so_far)
    return found


def row(summary: dict[str, Any]) -> dict[str, Any]:
    """A row that also names the class of the lowest AP50 without a threshold."""
    known = {name: value for name, value in summary["ap50_all"].items() if value is not None}
    worst = min(known, key=lambda name: known[name])
    return {**figure_row(summary, summary), "worst": f"{worst} {100 * known[worst]:.1f}"}


def main() -> None:
    config = tyro.cli(CountsConfig, description=__doc__)
    weights = weights_of([config.model], config.checkpoint)

    def write(found: dict[str, dict[str, Any]]) -> None:
        if config.json is not None:
            write_figures(config.json, found, weights)

    for name, found in rows(config, write).items():
        print(
            f"{name} ({found['exemplars']}): mIoU {found['mIoU']} %, mAP50 without a threshold {found['mAP50-all']} %"
        )


if __name__ == "__main__":
    main()
