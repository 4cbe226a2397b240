"""Label every image of a folder, a glob, a list, a manifest or a bucket.

    python data_jobs/label_dataset.py --input photos --output labels
    ray job submit --working-dir . -- python data_jobs/label_dataset.py --input s3://in/photos --output s3://out/labels

The same command again resumes. Exit codes: 0 done; 2 usage, configuration or an output that cannot be written (whatever
was finished is kept); 3 done, but more images failed than --max-errors; 130 after Ctrl-C; 143 after SIGTERM.
"""

from __future__ import annotations

import sys
from pathlib import Path

# As a script, the checkout this file belongs to comes before any installed everymask, on workers too.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import shlex

import tyro

from data_jobs.labelling.config import LabelDatasetConfig
from data_jobs.labelling.run import run
from data_jobs.runtime.exit_codes import exit_code


def main(arguments: list[str] | None = None, program: str = "python data_jobs/label_dataset.py") -> int:
    """The command; returns its exit code."""
    command = f"{program} {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
    return exit_code(
        lambda: run(tyro.cli(LabelDatasetConfig, args=arguments, prog=program), command),
        "what is finished is kept, the same command resumes",
    )


if __name__ == "__main__":
    sys.exit(main())
