"""Train torchvision's Mask R-CNN on an export: `everymask export --format coco-folders --split 0.8/0.1/0.1`.

    python examples/training/mask_rcnn.py EXPORT --output model.pt

Needs torch, torchvision and pycocotools. Weights are random unless `--pretrained` downloads torchvision's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torchvision.datasets import CocoDetection
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.transforms.functional import to_tensor


def sample(picture: Any, annotations: list[dict[str, Any]], dataset: CocoDetection) -> tuple[Any, dict[str, Any]]:
    """An image and its target, as torchvision's detectors take them."""
    boxes = torch.tensor([item["bbox"] for item in annotations], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = [torch.from_numpy(dataset.coco.annToMask(item)) for item in annotations]
    size = (0, picture.height, picture.width)
    return to_tensor(picture), {
        "boxes": boxes,
        "labels": torch.tensor([item["category_id"] for item in annotations], dtype=torch.int64),
        "masks": torch.stack(masks) if masks else torch.zeros(size, dtype=torch.uint8),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("export", type=Path)
    parser.add_argument("--output", type=Path, default=Path("mask_rcnn.pt"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=0.005)
    parser.add_argument("--side", type=int, default=800, help="shorter side of images in the network, in pixels")
    parser.add_argument(
        "--regions", type=int, default=512, help="regions of an image that a step learns from: its cost"
    )
    parser.add_argument("--pretrained", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    dataset = CocoDetection(str(options.export / "train"), str(options.export / "annotations" / "instances_train.json"))
    samples = [number for number in range(len(dataset)) if dataset.coco.getAnnIds(imgIds=[dataset.ids[number]])]
    classes = max(dataset.coco.getCatIds()) + 1
    model = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone="DEFAULT" if options.pretrained else None,
        num_classes=classes,
        min_size=options.side,
        max_size=2 * options.side,
        box_batch_size_per_image=options.regions,
        trainable_backbone_layers=3 if options.pretrained else None,
        norm_layer=None if options.pretrained else (lambda channels: torch.nn.GroupNorm(8, channels)),
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    for epoch in range(options.epochs):
        total = 0.0
        for start in range(0, len(samples), options.batch_size):
            batch = [sample(*dataset[number], dataset) for number in samples[start : start + options.batch_size]]
            images = [image.to(device) for image, _ in batch]
            targets = [{name: value.to(device) for name, value in target.items()} for _, target in batch]
            loss = sum(model(images, targets).values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total:.3f}", flush=True)
    torch.save(model.cpu().eval(), options.output)


if __name__ == "__main__":
    main()
