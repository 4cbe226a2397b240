"""Label a sample of a collection, and say what all of it will take.

    everymask estimate --input s3://in/photos --output s3://out/labels --sample 200 --price-per-gpu-hour 3

`everymask label` with the same options goes on from there. Exit codes: as of `data_jobs/label_dataset.py`.
"""

from __future__ import annotations

import sys

from data_jobs.labelling.config import GROUPS, RECIPES, EstimateConfig
from data_jobs.labelling.run import estimate
from data_jobs.runtime.command import Command

_GROUPS = {title: [path for path in paths if path != "update"] for title, paths in GROUPS.items()}

command = Command(
    "estimate",
    EstimateConfig,
    estimate,
    "Label a sample of a collection, and say what all of it will take. `everymask label` with the same options goes on "
    "from there.",
    groups={"estimate": ("sample", "price_per_gpu_hour", "spot_price_per_gpu_hour"), **_GROUPS},
    presets=RECIPES,
    interrupted="what is finished is kept, the same command resumes",
)

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
