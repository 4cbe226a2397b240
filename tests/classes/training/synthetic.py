"""Bags whose right classification is known, and a small training that finds it."""

from __future__ import annotations

import torch

from everymask.classes.head import HeadSpec
from everymask.classes.training.bags import UNNAMED, Bags
from everymask.classes.training.train import TrainingConfig

DIM = 6
CONFIG = TrainingConfig(
    features="token",
    hidden_dim=32,
    epochs=30,
    patience=20,
    batch_size=16,
    learning_rate=1e-2,
    topk_divisor=4,
    held_out_share=0.25,
)
OBJECT, BACKGROUND, SHARED = 0, 1, 2


def spec(num_classes: int) -> HeadSpec:
    return HeadSpec(tuple(f"class {i}" for i in range(num_classes)), "toy", "", "token", DIM, 0, hidden_dim=32)


def synthetic_bags(num_classes: int, per_class: int, seed: int = 0) -> tuple[Bags, torch.Tensor]:
    """Bags of 2 object masks near +4 on their class's axis, 5 background masks near -4 on the last axis, and one mask
    that pictures of every class share, with the kind (N,) of every mask."""
    generator = torch.Generator().manual_seed(seed)
    inputs, frame, ids, kinds = [], [], [], []
    for class_id in range(num_classes):
        for _ in range(per_class):
            masks = torch.randn(8, DIM, generator=generator) * 0.3
            masks[:2, class_id] += 4
            masks[2:7, DIM - 1] -= 4
            masks[7, DIM - 2] += 4
            inputs.append(masks)
            # Some of the background runs along the frame of the picture.
            frame.append(torch.tensor([0.0, 0.1, 0.9, 0.0, 0.0, 0.7, 0.0, 0.0]))
            ids.append(class_id)
            kinds += [OBJECT] * 2 + [BACKGROUND] * 5 + [SHARED]
    names = tuple(f"{i}.jpg" for i in range(len(ids)))
    # Each mask has a row of an 8 x 8 grid, the two of the object share theirs.
    occupancy = (torch.eye(8).repeat_interleave(8, dim=1) * 255).to(torch.uint8)
    occupancy[1] = occupancy[0]
    bags = Bags(
        torch.cat(inputs),
        torch.cat(frame),
        occupancy.repeat(len(ids), 1),
        torch.full((8 * len(ids),), UNNAMED),
        torch.full((len(ids),), 8),
        torch.tensor(ids),
        names,
    )
    return bags, torch.tensor(kinds)
