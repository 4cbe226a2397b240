"""Measure labels against ground truth, E-SAM's modules against each other, or a model's answers to clicks.

    python data_jobs/evaluate.py --labels DIR --ground-truth coco_panoptic --path DIR     AP^e of a label store
    python data_jobs/evaluate.py --labels DIR --ground-truth bsds --path DIR              segmentation covering
    python data_jobs/evaluate.py --labels DIR --ground-truth coco_instances --path DIR    mIoU and mAP50 of class masks
    python data_jobs/evaluate.py --labels DIR --ground-truth voc --path VOC2012           the same on PASCAL VOC
    python data_jobs/evaluate.py --ablation --path DIR [--model oracle]                   the modules of E-SAM, and AMG
    python data_jobs/evaluate.py --table 2 --ground-truth entityseg --annotations FILE --path DIR --models vit_b vit_l
    python data_jobs/evaluate.py --clicks --path DIR [--ground-truth bsds]                the model's answers to clicks
    python data_jobs/evaluate.py --clicks --ground-truth voc --split val --min-area 0.01 --path VOC2012
    python data_jobs/evaluate.py --proposals --path DIR                                   recall of AMG's masks

Exit codes: 0 done; 2 usage, or the labels and the ground truth do not fit; 130 interrupted.
"""

from __future__ import annotations

import json
import sys

import tyro

from data_jobs.evaluation.clicks import measure_clicks, measure_proposals
from data_jobs.evaluation.config import EvaluateConfig
from data_jobs.evaluation.figures import Figures, table
from data_jobs.evaluation.stored_labels import measure_store
from data_jobs.evaluation.tables import measure_table
from data_jobs.runtime.exit_codes import DONE, exit_code


def evaluate(config: EvaluateConfig) -> Figures:
    """Rows of figures by name.

    Raises:
        ConfigurationError: options or ground truth that cannot be used.
        InputError: labels that do not belong to the ground truth, or whose masks overlap.
    """
    if config.makes_table:
        return measure_table(config)
    if config.clicks:
        return measure_clicks(config)
    return measure_proposals(config) if config.proposals else measure_store(config)


def main(arguments: list[str] | None = None, program: str = "python data_jobs/evaluate.py") -> int:
    """The command; returns its exit code."""

    def run() -> int:
        config = tyro.cli(EvaluateConfig, args=arguments, prog=program, description=__doc__)
        figures = evaluate(config)
        print(table(figures))
        if config.json is not None:
            config.json.write_text(json.dumps(figures, indent=2) + "\n")
        return DONE

    return exit_code(run, "nothing was measured")


if __name__ == "__main__":
    sys.exit(main())
