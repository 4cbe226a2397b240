"""Train a semantic segmenter of `transformers` on an export: `everymask export --format huggingface`.

    python examples/training/segmenter.py EXPORT --output segmenter

Needs nothing that everymask does not need. Weights are random unless `--model` names a SegFormer of the hub.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from transformers import SegformerConfig, SegformerForSemanticSegmentation


def rows(export: str, split: str, at_once: int, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Some columns of a part of an export, at most `at_once` rows at a time, pictures opened."""
    for path in sorted(Path(export, "data").glob(f"{split}-*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(at_once, columns=columns):
            yield [{name: opened(value) for name, value in row.items()} for row in batch.to_pylist()]


def opened(value: Any) -> Any:
    return Image.open(io.BytesIO(value["bytes"])) if isinstance(value, dict) else value


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
    objects = [
        item for some in rows(options.export, "train", 1000, ["objects"]) for row in some for item in row["objects"]
    ]
    if not objects:
        raise SystemExit(f"{options.export} has no object to learn in data/train-*.parquet")
    found = {item["category"] + 1: item["label"] for item in objects}
    labels = {0: "background"} | {number: found.get(number, str(number)) for number in range(1, max(found) + 1)}
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
        for batch in rows(options.export, "train", options.batch_size, ["image", "masks", "objects"]):
            images = torch.stack([pixels(row["image"], options.side) for row in batch]).to(device)
            wanted = torch.stack([class_map(row, options.side) for row in batch]).to(device)
            loss = model(pixel_values=images, labels=wanted).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total:.3f}", flush=True)
    model.save_pretrained(options.output)


if __name__ == "__main__":
    main()
