"""Label images once more with another class head, from kept mask embeddings: no pixels, no backbone.

    everymask relabel --embeddings embeddings --head pets.safetensors --output labels

The same command again resumes. Exit codes: as of `data_jobs/label_dataset.py`.
"""

from __future__ import annotations

import sys

from data_jobs.labelling.config import PAPER_THRESHOLDS, RelabelConfig
from data_jobs.labelling.run import relabel
from data_jobs.runtime.command import Command

command = Command(
    "relabel",
    RelabelConfig,
    relabel,
    "Label images once more with another class head, from mask embeddings that `everymask label --save-embeddings` "
    "has kept. It reads no picture and runs no model. The same command again resumes.",
    groups={
        "input and output": (
            *("embeddings", "head", "output", "retry_failed", "update", "overwrite", "verify", "max_errors"),
            "previews",
        ),
        "method": (
            *("recipe", "min_region_area", "max_region_area", "classes.score_thresh", "classes.class_score_thresh"),
        ),
        "resources": ("actors", "node_labels"),
    },
    presets={"recipe": {"paper": PAPER_THRESHOLDS}},
    interrupted="what is finished is kept, the same command resumes",
)

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
