"""Runs Meta's `sam2` on random weights, in the environment of its own that `test_official.py` makes.

    python official_run.py FOLDER

Reads `pictures.npz`, and writes `sam2.1_tiny.pt` (the weights), `answers.pt` and `masks.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor

from everymask.backbone.sam.architecture import randomise

POINTS_PER_SIDE = 4


@torch.no_grad()
def main(folder: Path) -> None:
    model = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu", apply_postprocessing=False)
    randomise(model, seed=0)
    torch.save({"model": model.state_dict()}, folder / "sam2.1_tiny.pt")
    tokens = []
    model.sam_mask_decoder.register_forward_hook(lambda module, args, output: tokens.append(output[2]))
    answers, masks = {}, {}
    for name, image in np.load(folder / "pictures.npz").items():
        predictor = SAM2ImagePredictor(model)
        predictor.set_image(image)
        height, width = image.shape[:2]
        points = torch.tensor([[0.0, 0.0], [width / 2, height / 3], [width - 1.0, height - 1.0]])
        coords = predictor._transforms.transform_coords(points[:, None], normalize=True, orig_hw=(height, width))
        full, iou, low = predictor._predict(coords, torch.ones(len(points), 1), return_logits=True)
        answers[name] = {
            "points": points,
            "features": predictor._features["image_embed"][0],
            "low": low,
            "full": full,
            "iou": iou,
            "tokens": tokens[-1],
        }
        settings = {
            "points_per_side": POINTS_PER_SIDE,
            "pred_iou_thresh": float(iou.quantile(0.4)),
            "stability_score_thresh": 0.5,
            "box_nms_thresh": 1.0,  # The boxes of random masks all span the image.
        }
        generator = SAM2AutomaticMaskGenerator(model, output_mode="coco_rle", **settings)
        found = generator.generate(image)
        masks[name] = {
            "settings": settings,
            "rles": [{**record["segmentation"]} for record in found],
            "areas": [int(coco_mask.area(record["segmentation"])) for record in found],
        }
    torch.save(answers, folder / "answers.pt")
    (folder / "masks.json").write_text(json.dumps(masks))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
