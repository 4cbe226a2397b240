"""What it costs to describe the masks of an image by crops, as a head that reads crops does.

    python benchmarks/crops.py --json benchmarks/results/crops.json

The 48 likeliest masks of each example picture are described three times by one thread; printed is the median of the
processor's time.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from everymask.backbone.embedding import embed_images
from everymask.backbone.points import point_grid
from everymask.backbone.protocol import ImageEmbedding
from everymask.backbone.registry import load_backbone
from everymask.classes.config import MaskConfig
from everymask.classes.describers.imagenet import imagenet_describer
from everymask.evaluation.figure_files import weights_of, write_figures

PICTURES = Path(__file__).resolve().parent.parent / "examples" / "images"
REPEATS = 3


def seconds_of_pictures(count: int) -> list[float]:
    """Seconds that `count` crops of each picture take."""
    backbone, device = load_backbone("nano", None, "cpu"), torch.device("cpu")
    describer = imagenet_describer(device)
    found = []
    for path in sorted(path for path in PICTURES.iterdir() if path.suffix in (".jpg", ".png", ".webp")):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        (embedding,) = embed_images(backbone, [pixels], keep_picture=True)
        assert isinstance(embedding, ImageEmbedding)
        assert embedding.picture is not None
        points = point_grid(embedding.canvas.original_size_hw, 8, device)
        answers = backbone.decode_points(embedding, points)
        likeliest = answers.predicted_iou.flatten().topk(count).indices
        masks = answers.logits.flatten(0, 1)[likeliest] > 0
        picture = torch.from_numpy(embedding.picture.copy())
        for _ in range(REPEATS):
            began = time.process_time()
            describer.describe(picture, embedding.canvas, masks)
            found.append(time.process_time() - began)
    return found


def main() -> int:
    """Measure, print, and write the figures if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    count = MaskConfig().max_described
    assert count is not None
    seconds = median(seconds_of_pictures(count))
    figures = {
        "a head that reads crops": {"crops": count, "ms-each": round(1000 * seconds / count), "seconds": seconds}
    }
    print(f"{count} crops: {seconds:.2f} s, {1000 * seconds / count:.1f} ms each")
    if args.json is not None:
        write_figures(args.json, figures, weights_of(["nano"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
