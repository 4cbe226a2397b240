"""Label every image of a folder, a glob, a list, a manifest or a bucket.

    everymask label --input photos --output labels
    ray job submit --working-dir . -- python data_jobs/label_dataset.py --input s3://in/photos --output s3://out/labels

The same command again resumes. Exit codes: 0 done; 2 usage, configuration or an output that cannot be written (whatever
was finished is kept); 3 done, but more images failed than --max-errors; 130 after Ctrl-C; 143 after SIGTERM.
"""

from __future__ import annotations

import sys

from data_jobs.labelling.config import GROUPS, RECIPES, LabelDatasetConfig
from data_jobs.labelling.run import label
from data_jobs.runtime.command import Command

command = Command(
    "label",
    LabelDatasetConfig,
    label,
    "Label every image of a folder, a glob, a list, a manifest or a bucket. The same command again resumes.",
    groups=GROUPS,
    presets=RECIPES,
    interrupted="what is finished is kept, the same command resumes",
)

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
