"""Names answered in 16 bits, as a GPU answers them, beside 32 bits: on a pretend GPU, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.backbone.sam3.tiny import save_tiny_sam3

REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_gpu_answers_names_in_bfloat16_almost_as_the_cpu_does_in_32_bits(tmp_path: Path) -> None:
    weights = save_tiny_sam3(tmp_path)
    command = [sys.executable, "-W", "ignore", "-m", "tests.backbone.sam3.pretend_gpu_run", str(weights)]
    done = subprocess.run([*command, "cat", "school bus"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]  # tensors of two devices met, or 16 bits gave NaN
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["devices"], found["type"]) == (["cuda:0"], "torch.float32"), "answers are in 32 bits, on the GPU"
    assert found["bfloat16"] > 1000, "the detector computes in 16 bits"
    assert found["logits"] < 0.02, "of their range, on average"
    assert found["scores"] < 0.02
    assert found["presence"] < 0.005
    ours, theirs = found["masks"]
    assert ours == theirs
    assert min(ours) > 10
    assert min(found["ious"]) > 0.9, "IoU of each mask with its likest"
