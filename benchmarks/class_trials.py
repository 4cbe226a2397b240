"""Class heads of several seeds, compared with annotated images."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from typing import Any, Literal, Self

from benchmarks.class_material import Material, Measured, pasted, read_truth
from benchmarks.kept_figures import kept_figures
from everymask.classes.config import ClassesConfig
from everymask.classes.embeddings import StoredEmbeddings
from everymask.classes.features import FeatureKind
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import classify_masks
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.bags import make_bags
from everymask.classes.training.corrections import NamedMasks
from everymask.classes.training.train import TrainingConfig, head_spec, train_head
from everymask.evaluation.doubt import DoubtFigures, doubt_figures
from everymask.evaluation.ground_truth import ClassTruth
from everymask.evaluation.semantic import ClassFigures, ClassMatches, SemanticFigures, semantic_figures

ENOUGH = 10
"""Fewest objects of a class for figures of its own."""
OWN = "own"
"""Stands for a head's own threshold."""


@dataclass(frozen=True, kw_only=True)
class TrialConfig(Measured):
    """How heads are trained and measured."""

    thresholds: tuple[float, ...] = ()
    """Also label with these thresholds, besides the heads' own."""
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass(frozen=True)
class Trial:
    """A head compared with the annotated images.

    Attributes:
        labelled: figures by threshold, written as `0.7`, and by the head's own.
        every_mask: figures without a threshold.
        doubt: how well its doubts predict errors.
    """

    labelled: dict[str, SemanticFigures]
    every_mask: SemanticFigures
    doubt: DoubtFigures

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """A trial from what `asdict` makes of it, which may have been JSON in between."""

        def semantic(figures: dict[str, Any]) -> SemanticFigures:
            classes = {name: ClassFigures(**row) for name, row in figures["classes"].items()}
            return SemanticFigures(**{**figures, "classes": classes})

        labelled = {threshold: semantic(figures) for threshold, figures in value["labelled"].items()}
        return cls(labelled, semantic(value["every_mask"]), DoubtFigures(**value["doubt"]))


def measure(
    head: ClassHead,
    images: dict[str, StoredEmbeddings],
    truth: dict[str, ClassTruth],
    classes: Sequence[str],
    config: ClassesConfig,
) -> SemanticFigures:
    """Label stored images with a head and compare with the ground truth of some classes."""
    labels = {name: classify_masks(record.embeddings, head, config) for name, record in images.items()}
    return semantic_figures(labels, truth, classes)


def train(
    material: Material, taxonomy: Taxonomy, config: TrainingConfig, composites: NamedMasks | None = None
) -> tuple[ClassHead, ClassHead, float]:
    """Student, teacher, and seconds from stored bags to the student."""
    started = time.perf_counter()
    subjects = {item.bag_id: item.origin.subject for item in material.exemplars}
    bags = make_bags(material.bags, subjects, taxonomy, config.features)
    spec = head_spec(taxonomy.classes, material.backbone, config)
    result = train_head(bags, spec, config, corrections=composites)
    return result.head, result.teacher, time.perf_counter() - started


def try_head(
    head: ClassHead,
    material: Material,
    truth: dict[str, ClassTruth],
    classes: Sequence[str],
    config: TrialConfig,
) -> Trial:
    """Label the images with a head by its own threshold, by `config.thresholds`, and by none."""

    def by(settings: ClassesConfig) -> SemanticFigures:
        return measure(head, material.images, truth, classes, settings)

    masks = {name: record.embeddings for name, record in material.images.items()}
    return Trial(
        {OWN: by(config.classes)}
        | {f"{value:g}": by(replace(config.classes, score_thresh=value)) for value in config.thresholds},
        by(replace(config.classes, score_thresh=0.0, class_score_thresh={})),
        doubt_figures(head, masks, truth, classes),
    )


def over_seeds(
    material: Material,
    taxonomy: Taxonomy,
    config: TrialConfig,
    features: FeatureKind,
    tell: Callable[[dict[str, Any]], None] = lambda figures: None,
) -> dict[str, Any]:
    """Figures over the seeds of MIL alone, MIL with distillation, and both with composites.

    Each seed's are kept in --work. `tell` gets the figures over the seeds so far after each seed.
    """
    trials: dict[str, list[Trial]] = {}
    seconds: list[float] = []
    figures: dict[str, Any] = {}

    @cache
    def composites() -> NamedMasks | None:
        first, _, _ = train(material, taxonomy, replace(config.training, seed=0, features=features))
        return pasted(material, taxonomy, first, config, config.classes)

    for seed in range(config.seeds):
        training = replace(config.training, seed=seed, features=features, distillation=True)
        found = kept_figures(
            config.work / "figures",
            _measured_of(material, taxonomy, training, config),
            partial(_one_seed, material, taxonomy, training, config, composites),
        )
        seconds.append(found["training_seconds"])
        for name, value in found["trials"].items():
            trial = Trial.from_json(value)
            trials.setdefault(name, []).append(trial)
            own = trial.labelled[OWN]
            print(
                f"{features:>12} seed {seed} {name:>10}: mIoU {own.miou:.2%}, mAP50 {own.map50:.2%}, without a "
                f"threshold {trial.every_mask.map50:.2%} (last head: {seconds[-1]:.0f} s)",
                flush=True,
            )
        figures = {"training_seconds": seconds, **{name: summary(each) for name, each in trials.items()}}
        tell(figures)
    return figures


def _one_seed(
    material: Material,
    taxonomy: Taxonomy,
    training: TrainingConfig,
    config: TrialConfig,
    composites: Callable[[], NamedMasks | None],
) -> dict[str, Any]:
    """A seed's trials by kind of head, and the seconds that its last head took."""
    student, teacher, elapsed = train(material, taxonomy, training)
    heads = {"mil": teacher, "distilled": student}
    if config.scenes is not None:
        heads["composites"], _, elapsed = train(material, taxonomy, training, composites())
    truth, measured, _ = read_truth(config.ground_truth, config.split, taxonomy, config.half)
    tried = {name: asdict(try_head(head, material, truth, measured, config)) for name, head in heads.items()}
    return {"training_seconds": elapsed, "trials": tried}


def _measured_of(
    material: Material, taxonomy: Taxonomy, training: TrainingConfig, config: TrialConfig
) -> dict[str, Any]:
    """What a seed's figures depend on."""
    return {
        "weights": material.backbone.weights_sha256,
        "exemplars": [item.bag_id for item in material.exemplars],
        "images": [str(config.ground_truth.resolve()), config.split, list(material.images)],
        "taxonomy": taxonomy.subjects,
        "training": asdict(training),
        "classes": asdict(config.classes),
        "thresholds": config.thresholds,
        "composites": None if config.scenes is None else [str(config.scenes.resolve()), config.composites],
    }


def summary(trials: Sequence[Trial]) -> dict[str, Any]:
    """Means and deviations over some trials of one kind of head."""
    return {
        **_by_threshold(trials, OWN),
        "thresholds": {value: _by_threshold(trials, value) for value in trials[0].labelled if value != OWN},
        "wrong_name_auroc": _mean([trial.doubt.wrong_name for trial in trials]),
        "missed_object_auroc": _mean([trial.doubt.missed_object for trial in trials]),
    }


def _by_threshold(trials: Sequence[Trial], threshold: str) -> dict[str, Any]:
    labelled = [trial.labelled[threshold] for trial in trials]
    every_mask = [trial.every_mask for trial in trials]
    names = list(labelled[0].classes)
    return {
        "miou": _spread([item.miou for item in labelled]),
        "map50": _spread([item.map50 for item in labelled]),
        "map50_all": _spread([item.map50 for item in every_mask]),
        "frequent": {
            "miou": _spread([frequent_mean(item, "iou") for item in labelled]),
            "map50_all": _spread([frequent_mean(item, "ap50") for item in every_mask]),
        },
        "iou": {name: _mean([item.classes[name].iou for item in labelled]) for name in names},
        "ap50": {name: _mean([item.classes[name].ap50 for item in labelled]) for name in names},
        "ap50_all": {name: _mean([item.classes[name].ap50 for item in every_mask]) for name in names},
        "instances": {name: labelled[0].classes[name].instances for name in names},
    }


def frequent_mean(figures: SemanticFigures, measure: Literal["iou", "ap50"]) -> float:
    """Mean over the classes with enough objects, of IoU with background; NaN where there are none."""
    rows = [row for name, row in figures.classes.items() if row.instances >= ENOUGH or name == "background"]
    values: list[float] = [value for row in rows if (value := getattr(row, measure)) is not None]
    return statistics.mean(values) if values else math.nan


def _spread(values: Sequence[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "deviation": deviation, "values": list(values)}


def _mean(values: Sequence[float | None]) -> float | None:
    shown = [value for value in values if value is not None]
    return statistics.mean(shown) if shown else None


def figure_row(figures: dict[str, Any], doubts: dict[str, Any]) -> dict[str, Any]:
    """A table's row, in percent: mean and deviation over the seeds.

    Args:
        figures: a summary, or its part for one threshold.
        doubts: the summary.
    """
    aurocs = {name: doubts[f"{name}_auroc"] for name in ("wrong_name", "missed_object")}
    return {
        "mIoU": _plus_minus(figures["miou"]),
        "mAP50": _plus_minus(figures["map50"]),
        "mAP50-all": _plus_minus(figures["map50_all"]),
        "mIoU-10": _plus_minus(figures["frequent"]["miou"]),
        "mAP50-all-10": _plus_minus(figures["frequent"]["map50_all"]),
        **{name.replace("_", "-"): "-" if value is None else round(value, 3) for name, value in aurocs.items()},
        **{f"IoU:{name}": percent(value) for name, value in figures["iou"].items()},
        **{f"AP50:{name}": percent(value) for name, value in figures["ap50_all"].items()},
        **{f"objects:{name}": count for name, count in figures["instances"].items()},
        "seeds": {name: figures[name]["values"] for name in ("miou", "map50", "map50_all")},
    }


def with_intervals(matches: ClassMatches, samples: int) -> dict[str, str]:
    """mIoU and mAP50 in percent, with the 95 % interval of `samples` sets of the same images, drawn anew."""
    figures = matches.figures()
    drawn = matches.bootstrap(samples)

    def shown(value: float, column: int) -> str:
        ordered = sorted(drawn[:, column])
        low, high = (ordered[round(share * (samples - 1))] for share in (0.025, 0.975))
        return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"

    return {"mIoU": shown(figures.miou, 0), "mAP50": shown(figures.map50, 2)}


def percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _plus_minus(spread: dict[str, Any]) -> str:
    """Mean and deviation in percent; the value alone where there is one."""
    if math.isnan(spread["mean"]):
        return "-"
    mean = f"{100 * spread['mean']:.1f}"
    return mean if len(spread["values"]) == 1 else f"{mean} ± {100 * spread['deviation']:.1f}"
