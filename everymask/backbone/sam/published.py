"""Where the official SAM weights are, and what they must be."""

from __future__ import annotations

from collections.abc import Mapping

from everymask.backbone.weights import WeightSource

_BASE = "https://dl.fbaipublicfiles.com/segment_anything/"

PUBLISHED_WEIGHTS: Mapping[str, WeightSource] = {
    "vit_h": WeightSource(
        _BASE + "sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2_564_550_879,
    ),
    "vit_l": WeightSource(
        _BASE + "sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "vit_b": WeightSource(
        _BASE + "sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375_042_383,
    ),
}
