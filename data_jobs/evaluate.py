"""Measure labels, E-SAM's modules, or a model's answers against ground truth.

    everymask evaluate stored --labels DIR --path DIR                                 AP^e of a label store
    everymask evaluate stored --labels DIR --ground-truth bsds --path DIR             segmentation covering
    everymask evaluate stored --labels DIR --ground-truth coco_instances --path DIR   mIoU and mAP50 of class masks
    everymask evaluate stored --labels DIR --ground-truth voc --path VOC2012          the same on PASCAL VOC
    everymask evaluate stored --labels DIR --ground-truth cvat --path FILE.xml        against what people have drawn
    everymask evaluate entities --path DIR [--models oracle]                          the modules of E-SAM, and AMG
    everymask evaluate entities --table 2 --ground-truth entityseg --annotations FILE --path DIR --models vit_b vit_l
    everymask evaluate classes --path VOC2012 --split val --head pets.safetensors --names cat,dog,background
    everymask evaluate clicks --path DIR [--ground-truth bsds]                        the model's answers to clicks
    everymask evaluate clicks --ground-truth voc --split val --min-area 0.01 --path VOC2012
    everymask evaluate proposals --path DIR                                           recall of AMG's masks

Exit codes: 0 done; 2 usage, or the labels and the ground truth do not fit; 130 interrupted.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from data_jobs.evaluation.click_figures import measure_clicks, measure_proposals
from data_jobs.evaluation.config import (
    ClicksConfig,
    EntitiesConfig,
    NamedClassesConfig,
    ProposalsConfig,
    StoredConfig,
)
from data_jobs.evaluation.figures import Figures, table
from data_jobs.evaluation.named_classes import measure_classes
from data_jobs.evaluation.stored_labels import measure_store
from data_jobs.evaluation.tables import measure_table
from data_jobs.labelling.config import RECIPES
from data_jobs.runtime.command import Command, one_of
from data_jobs.runtime.exit_codes import DONE
from data_jobs.runtime.outcome import next_step
from data_jobs.runtime.waiting import waiting
from everymask.classes.head import load_head
from everymask.evaluation.figure_files import weights_of, write_figures
from everymask.labels.provenance import read_run
from everymask.labels.store import LabelStore

C = TypeVar("C", StoredConfig, EntitiesConfig, NamedClassesConfig, ClicksConfig, ProposalsConfig)


def _printed(measure: Callable[[C], Figures], following: Callable[[C], str] | None = None) -> Callable[[C], int]:
    def run(config: C) -> int:
        with waiting("measuring"):
            figures, options = measure(config), config.figures
        print(table(figures))
        if options.json is not None:
            write_figures(options.json, figures, *_measured(config))
        if following is not None:
            next_step(following(config))
        return DONE

    return run


def _measured(config: object) -> tuple[dict[str, str], dict[str, str]]:
    """Digests of the weights by model, and of the class head by its classes."""
    if isinstance(config, EntitiesConfig):
        return weights_of(config.models, config.checkpoint), {}
    if isinstance(config, ClicksConfig | ProposalsConfig):
        return weights_of([config.model.model], config.model.checkpoint), {}
    if isinstance(config, NamedClassesConfig):
        heads = {Path(head).name: load_head(head).file_sha256 or "" for head in config.head}
        return weights_of([config.model.model], config.model.checkpoint), heads
    assert isinstance(config, StoredConfig)
    record = read_run(LabelStore(config.labels))
    made = record.config if record else {}
    weights = {made["model"]: made["weights_sha256"]} if made.get("weights_sha256") else {}
    head = made.get("head_sha256")
    return weights, {",".join(made.get("class_names") or ()): head} if head else {}


stored = Command(
    "evaluate stored",
    StoredConfig,
    _printed(measure_store, lambda config: f"everymask browse {shlex.quote(config.labels)}"),
    "Measure a label store against ground truth: AP^e of entities, covering of human segmentations, or mIoU and mAP50 "
    "of named classes. Images are matched by their file names.",
    interrupted="nothing was measured",
)
entities = Command(
    "evaluate entities",
    EntitiesConfig,
    _printed(measure_table),
    "Label annotated pictures by E-SAM with its modules on and off, by AMG and by SAM's object level, and give the "
    "AP^e of each: the tables of E-SAM's paper.",
    groups={
        "pictures": ("path", "ground_truth", "annotations", "limit"),
        "what is measured": ("table", "models", "oracle", "checkpoint"),
        "figures": ("max_dets", "bootstrap", "json"),
        "resources": ("device", "workers"),
    },
    interrupted="nothing was measured",
)
classes = Command(
    "evaluate classes",
    NamedClassesConfig,
    _printed(measure_classes),
    "Label annotated pictures by methods that name classes, and give the mIoU (with background) and AP of each, and "
    "the milliseconds an image takes. mIoU is of labels as they are written, AP of all masks, without a threshold.",
    groups={
        "pictures": ("path", "ground_truth", "split", "limit"),
        "what is measured": ("head", "names", "methods", "measured", "recipe", "by_class"),
        "model": ("model", "checkpoint", "device"),
        "figures": ("bootstrap", "json"),
        "resources": ("workers",),
    },
    presets=RECIPES,
    interrupted="nothing was measured",
    stand_ins={"names": "cat,dog"},
)
clicks = Command(
    "evaluate clicks",
    ClicksConfig,
    _printed(measure_clicks),
    "Click every segment of the ground truth once, and measure the model's answers beside a baseline that learns "
    "nothing.",
    interrupted="nothing was measured",
)
proposals = Command(
    "evaluate proposals",
    ProposalsConfig,
    _printed(measure_proposals),
    "Average recall of the masks of a grid of clicks: all of them, and those that AMG's thresholds and NMS leave.",
    groups={
        "pictures": ("path", "ground_truth", "split", "min_area", "limit"),
        "model": ("model", "checkpoint", "device"),
        "figures": ("json",),
    },
    interrupted="nothing was measured",
)

if __name__ == "__main__":
    sys.exit(one_of((stored, entities, classes, clicks, proposals))(sys.argv[1:]))
