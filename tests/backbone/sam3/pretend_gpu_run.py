"""Asks a small SAM 3 for names on the CPU in 32 bits and on the pretend GPU, and prints how far the answers lie apart.

python -m tests.backbone.sam3.pretend_gpu_run model.safetensors cat "school bus"
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from everymask.backbone.concepts import ConceptMasks
from everymask.backbone.registry import load_backbone
from everymask.classes.config import ConceptsConfig
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.masks.rle import rle_ious
from everymask.records import ImageLabels
from tests.backbone.official_pictures import SIZES, picture
from tests.pretend_gpu import PretendGpu, computed


def answers(weights: Path, device: str, names: list[str]) -> tuple[dict[str, list[ConceptMasks]], list[ImageLabels]]:
    """Every mask of each name, and the labels, of each picture."""
    backbone: Any = load_backbone("sam3", weights, device)
    backbone.load_concepts()
    pictures = [picture(size_hw) for size_hw in SIZES.values()]
    found = {}
    for name, embedding in zip(SIZES, backbone.embed(pictures), strict=True):
        found[name] = backbone.find_concepts(backbone.view_for_concepts(embedding), names, 0.0)
    config = LabelConfig("concepts", concepts=ConceptsConfig(tuple(names), score_thresh=0.2, overlaps="keep"))
    labels = [one for one in label_images(backbone, pictures, config) if isinstance(one, ImageLabels)]
    return found, labels


def main(weights: Path, names: list[str]) -> None:
    exact, labels = answers(weights, "cpu", names)
    with PretendGpu():
        found, other_labels = answers(weights, "cuda", names)
        report: dict[str, Any] = {"logits": 0.0, "scores": 0.0, "presence": 0.0}
        for name, wanted in exact.items():
            for ours, theirs in zip(found[name], wanted, strict=True):
                logits, scores = ours.logits.cpu(), ours.scores.cpu()
                spread = float(theirs.logits.abs().max())
                report["logits"] = max(report["logits"], float((logits - theirs.logits).abs().mean()) / spread)
                report["scores"] = max(report["scores"], float((scores - theirs.scores).abs().max()))
                report["presence"] = max(report["presence"], abs(ours.presence - theirs.presence))
                report["type"] = str(ours.logits.dtype)
    report["devices"] = sorted({str(one.logits.device) for of in found.values() for one in of})
    report["bfloat16"] = computed[torch.bfloat16]
    report["masks"] = [len(one.masks) for one in labels], [len(one.masks) for one in other_labels]
    report["ious"] = [
        float(rle_ious([mask.rle for mask in one.masks], [mask.rle for mask in other.masks]).max(axis=1).mean())
        for one, other in zip(labels, other_labels, strict=True)
        if one.masks and other.masks
    ]
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
