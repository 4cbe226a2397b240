"""A GPU labels as the CPU does: all three methods, on answers that are the same on both."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from everymask.classes.config import ClassesConfig
from everymask.classes.head import ClassHead, HeadSpec
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_embedding
from everymask.records import ImageLabels
from everymask.research.oracle import LIKE_SAM, OracleBackbone, drawn_scene

SCENE = drawn_scene(40, (240, 320))
ENTITIES, AMG = EntityConfig(points_per_side=16, gallery_points_per_side=32), AmgConfig(points_per_side=16)


def labels_on(device: str, method: Literal["entities", "classes", "amg"]) -> ImageLabels:
    """The labels of the drawn picture, everything but the oracle's own answers computed on the device."""
    backbone = OracleBackbone([SCENE], LIKE_SAM, device=device)
    head = None
    if method == "classes":
        torch.manual_seed(0)
        spec = HeadSpec(
            ("one", "other"), backbone.name, backbone.weights_sha256, "token", backbone.token_dim, backbone.feature_dim
        )
        head = ClassHead(spec).eval()
    config = LabelConfig(method, ENTITIES, AMG, ClassesConfig(score_thresh=0.0))
    return label_embedding(backbone, backbone.embed([SCENE.image])[0], config, head)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", ["entities", "amg", "classes"])
def test_a_gpu_gives_the_cpus_labels(method: Literal["entities", "classes", "amg"]) -> None:
    expected, labels = labels_on("cpu", method), labels_on("cuda", method)
    assert len(expected.masks) > 5
    assert [mask.class_id for mask in labels.masks] == [mask.class_id for mask in expected.masks]
    for mine, theirs in zip(labels.masks, expected.masks, strict=True):
        # Bilinear up-scaling rounds differently: a pixel on an edge may fall on either side.
        assert mine.area == pytest.approx(theirs.area, abs=max(4, 0.001 * theirs.area))
        np.testing.assert_allclose(mine.box_xyxy, theirs.box_xyxy, atol=1)
        assert mine.score == pytest.approx(theirs.score, abs=1e-4)
        assert mine.point_coords == theirs.point_coords
