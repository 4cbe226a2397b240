"""Documented commands that the walk through the documents does not run, each with why, and what runs it instead."""

from __future__ import annotations

import re

_MINUTES = "a measurement of minutes to hours; its figures come from this very command"
_CLOUD = "needs a cloud; tests/cluster holds its files against the clouds' own definitions"
_DATA = "needs ground truth that the project does not hold; tests/data_jobs runs it on small files of the same kind"

REASONS: dict[str, str] = {
    r"git clone .*|make install.*|source .*activate": "makes the environment in which the tests run",
    r"make (test|test-fast|test-slow|lint)": "runs the tests, this one among them",
    r"make mutants .*": "takes hours; tests/mutants runs the tool on a small module",
    r"apt-get .*": "changes the machine",
    r"export .*": "sets keys and addresses, which the walk has of its own",
    r"docker .*": "needs a container engine; tests/cluster/test_image.py runs the image's steps without one",
    r"kubectl .*|cp -r cluster/kuberay/.*": "needs Kubernetes; tests/cluster/test_kuberay.py checks what is applied",
    r"ray (up|down|dashboard) .*": _CLOUD,
    r"ray job .*|python -c .*count_rows.*": "needs a cluster; tests/cluster/test_submission.py submits and stops",
    r"curl -H .Authorization.*": "asks a service on Kubernetes; tests/serve asks with keys",
    r"sbatch .*|everymask export --labels /scratch/.*": "needs Slurm; tests/cluster/test_slurm.py runs the script",
    r"prometheus .*": "tests/cluster/test_monitoring.py runs it beside a job and a service",
    r"python benchmarks/.*": _MINUTES,
    r"everymask exemplars .*--source crawl .*": "needs the internet; tests/classes/exemplars crawls a loopback server",
    r".*--method clip .*": "needs CLIP's weights; tests/data_jobs/test_label_dataset.py runs it with a small CLIP",
    r".*--model sam3 .*|.*--source concepts .*|.*example_boxes.*": (
        "needs SAM 3's weights; tests/data_jobs/test_label_concepts.py and tests/serve run it with a small SAM 3"
    ),
    r"everymask selftest --model .*": "needs weights, or a package installed; tests/everymask_cli/selftest runs both",
    r"everymask evaluate (entities|classes) .*": _DATA,
    r"everymask evaluate stored .*(COCO|VOC2012|DATA/|annotations\.xml).*": _DATA,
    r"everymask (label --config thresholds\.yaml|compare) .*": (
        "needs what the command before it measured; tests/data_jobs runs both on small stores"
    ),
    r".*hf://datasets/NAME.*": "needs the Hugging Face hub; tests/images/sources asks a loopback hub",
}


def reason_not_to_run(command: str) -> str | None:
    """Why the walk leaves a command out, or None if it runs it."""
    return next((reason for pattern, reason in REASONS.items() if re.fullmatch(pattern, command)), None)
