from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everymask.masks.box_nms import box_nms


@pytest.mark.parametrize("iou_thresh", [0.3, 0.7, 1.0])
def test_it_keeps_what_torchvision_keeps_in_its_order(iou_thresh: float) -> None:
    from torchvision.ops import nms

    generator = torch.Generator().manual_seed(3)
    corners = torch.rand(200, 2, generator=generator) * 50
    boxes = torch.cat([corners, corners + 1 + torch.rand(200, 2, generator=generator) * 40], dim=1)
    scores = torch.rand(200, generator=generator)
    kept = box_nms(boxes, scores, iou_thresh)
    assert kept.tolist() == nms(boxes, scores, iou_thresh).tolist()
    assert (len(kept) < 200) == (iou_thresh < 1)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 4, st.sampled_from([0.2, 0.5, 0.9])), max_size=12), st.floats(0, 1))
def test_ties_and_boxes_without_an_area_are_treated_as_torchvision_does(
    drawn: list[tuple[int, int, int, int, float]], iou_thresh: float
) -> None:
    from torchvision.ops import nms

    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h, _ in drawn], dtype=torch.float32).reshape(-1, 4)
    scores = torch.tensor([score for *_, score in drawn], dtype=torch.float32)
    assert box_nms(boxes, scores, iou_thresh).tolist() == nms(boxes, scores, iou_thresh).tolist()


def test_an_iou_that_is_the_threshold_is_compared_in_double_precision() -> None:
    from torchvision.ops import nms

    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 3]])
    for iou_thresh in (0.3, float(torch.tensor(0.3))):
        kept = box_nms(boxes, torch.tensor([0.9, 0.8]), iou_thresh)
        assert kept.tolist() == nms(boxes, torch.tensor([0.9, 0.8]), iou_thresh).tolist()


def test_no_box_keeps_none() -> None:
    assert box_nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_entities_are_found_without_importing_a_compiler_or_statistics() -> None:
    script = """
import sys
import numpy as np
import everymask.classes.segmenter
from everymask.backbone.registry import load_backbone
from everymask.entities.config import EntityConfig
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
image = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
config = LabelConfig(entities=EntityConfig(points_per_side=4, gallery_points_per_side=4))
label_images(load_backbone("nano", None, "cpu"), [image], config)
print([name for name in ("torchvision", "torch._dynamo", "scipy.stats") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
