"""How often a GPU is started and waited for.

Each start takes the host some microseconds and each wait empties the GPU's queue: their numbers decide how busy it is.
What they would compute is held by the tests of the CPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@cache
def counted() -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.gpu_work_run", "10"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("model", ["sam", "sam2"])
def test_a_batch_of_prompts_is_decoded_by_few_kernels_and_one_wait(model: str) -> None:
    found = counted()[model]
    assert found["kernels"] <= 120
    assert found["waits"] == 1
    assert found["uploads"] == 0


def test_an_image_of_eleven_batches_waits_for_the_gpu_forty_times_at_most() -> None:
    entities = counted()["entities"]
    assert entities["masks"] > 10
    beside_batches = entities["waits"] - len(entities["batches"])
    assert beside_batches + 11 * (1 + counted()["sam"]["waits"]) <= 40


def test_automatic_masks_wait_a_few_times_a_batch() -> None:
    amg = counted()["amg"]
    assert amg["masks"] > 10
    assert amg["waits"] <= 5 * len(amg["batches"])


def test_kernels_do_not_grow_with_the_entities() -> None:
    entities = counted()["entities"]
    assert entities["masks"] > 10
    assert entities["kernels"] <= 300 + 30 * len(entities["batches"])


@pytest.mark.parametrize("method", ["entities", "amg"])
def test_a_gpus_labels_are_those_of_a_cpu(method: str) -> None:
    assert counted()[method]["equal"], "batches and bands are larger on a GPU; labels do not depend on them"
