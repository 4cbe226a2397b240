"""Train a semantic segmenter of `transformers` on an export: `everymask export --format huggingface`.

    python examples/training/segmenter.py EXPORT --output segmenter

Needs torch, transformers and datasets. Weights are random unless `--model` names a SegFormer of the hub.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from datasets import load_dataset
from transformers import SegformerConfig, SegformerForSemanticSegmentation


def class_map(row: dict[str, Any], side: int) -> Any:
    """(side, side) classes from 1, 0 for background, of a row's index picture."""
    numbers = np.asarray(row["masks"].resize((side, side), 0))
    values = np.array([0, *(item["category"] + 1 for item in row["objects"])])
    return torch.from_numpy(values[numbers])


def pixels(picture: Any, side: int) -> Any:
    """(3, side, side) in [-1, 1]."""
    array = np.asarray(picture.convert("RGB").resize((side, side)), dtype=np.float32)
    return torch.from_numpy(array / 127.5 - 1).permute(2, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("export")
    parser.add_argument("--output", default="segmenter")
    parser.add_argument("--model", default=None)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--side", type=int, default=512, help="side of images in the network, in pixels")
    options = parser.parse_args()
    torch.manual_seed(0)
    dataset = load_dataset(options.export, split="train")
    names = dataset.features["objects"].feature["category"].names
    labels = {0: "background", **{index + 1: name for index, name in enumerate(names)}}
    if options.model:
        model = SegformerForSemanticSegmentation.from_pretrained(
            options.model, id2label=labels, ignore_mismatched_sizes=True
        )
    else:
        model = SegformerForSemanticSegmentation(
            SegformerConfig(id2label=labels, hidden_dropout_prob=0.0, drop_path_rate=0.0, classifier_dropout_prob=0.0)
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    for epoch in range(options.epochs):
        total = 0.0
        for start in range(0, len(dataset), options.batch_size):
            rows = [dataset[number] for number in range(start, min(start + options.batch_size, len(dataset)))]
            images = torch.stack([pixels(row["image"], options.side) for row in rows]).to(device)
            wanted = torch.stack([class_map(row, options.side) for row in rows]).to(device)
            loss = model(pixel_values=images, labels=wanted).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total:.3f}", flush=True)
    model.save_pretrained(options.output)


if __name__ == "__main__":
    main()
