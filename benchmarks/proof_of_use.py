"""What labels by everymask are worth to a model trained on them, against the truth by people.

    python benchmarks/proof_of_use.py --voc DATA/voc --json benchmarks/results/proof-of-use.json

everymask labels images of VOC's `train` with a class head. A small segmenter is then trained twice in the same
way, once on these labels and once on VOC's own masks, and both are measured on VOC's `val`: mIoU over the background
and the head's classes that VOC knows. The segmenter is a frozen EfficientNet-Lite2 with ImageNet weights, whose feature
maps are kept, and a head of 70,000 weights that reads each place by itself. Its settings were chosen beforehand and
not tuned.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

import everymask
from benchmarks.class_material import read_truth
from everymask.backbone.nano.efficientnet import CHANNELS, load_efficientnet
from everymask.classes.head import ClassHead, load_head
from everymask.classes.taxonomy import Taxonomy
from everymask.evaluation.figure_files import weights_of, write_figures
from everymask.evaluation.ground_truth import VOID, ClassTruth
from everymask.evaluation.semantic import ClassMatches, match_classes
from everymask.labels.corrections import labelled_images
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.labelled import labelled_masks
from everymask.masks.painting import semantic_map
from everymask.masks.rle import encode_label_map
from everymask.records import ImageLabels

_STRIDE = 8
_COARSE = 2
"""The first of the trunk's feature maps that the head reads; they have strides 8, 16 and 32."""
_IMAGES_PER_PART = 10
_LEARNT = 5.0
"""IoU in percent below which a class was not learnt, and a ratio says nothing."""
_WIDTH = sum(CHANNELS[_COARSE:])


@dataclass(frozen=True)
class Config:
    """Train on labels and on the truth."""

    voc: Path
    """Folder in VOC's layout."""
    head: str = "everyday"
    """The class head that labels: a file, or the name of a shipped one."""
    train_images: int = 300
    """Images of VOC's train, drawn by --seed."""
    val_images: int = 256
    """The first so many images of VOC's val."""
    side: int = 320
    """The segmenter's input in pixels, a multiple of 32."""
    epochs: int = 12
    """Passes over the training images."""
    batch: int = 8
    """Images a step."""
    learning_rate: float = 2e-3
    """Highest learning rate of AdamW; it falls to 0 as a cosine."""
    seeds: int = 2
    """Trainings of each kind; figures are their means."""
    seed: int = 0
    """Of the choice of images, and the first training's."""
    work: Path = Path("runs/proof-of-use")
    """Where labels and features are kept: a command that was stopped goes on with them."""
    threads: int = 1
    """torch threads of the training."""
    json: Path | None = None
    """Also write the figures to this file."""


class Head(nn.Module):
    """(B, 520, H, W) features of all maps at stride 8 → (B, classes, H, W) logits."""

    def __init__(self, classes: int, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(_WIDTH),
            nn.Conv2d(_WIDTH, width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, classes, 1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(features)
        return logits


def main() -> None:
    config = tyro.cli(Config, description=__doc__)
    torch.set_num_threads(config.threads)
    head = load_head(config.head)
    taxonomy = Taxonomy(tuple((name, name) for name in head.spec.classes))
    train, classes, pictures = read_truth(config.voc, "train", taxonomy)
    chosen = sorted(random.Random(config.seed).sample(sorted(train), min(config.train_images, len(train))))
    train = {name: train[name] for name in chosen}
    val = dict(list(read_truth(config.voc, "val", taxonomy)[0].items())[: config.val_images])
    labels = labelled(config, [pictures / name for name in chosen], head)
    own = match_classes(labels, train, classes)
    print(f"labels of {len(train)} training images: mIoU {own.figures().miou:.3f}", flush=True)
    trunk = load_efficientnet()
    features = [trunk_features(trunk, pictures / name, config) for name in chosen]
    for name in val:
        trunk_features(trunk, pictures / name, config)
    print("features are there", flush=True)
    by_labels = {name: restricted(labels[name], classes, truth.size_hw) for name, truth in train.items()}
    by_truth = {name: truth.semantic for name, truth in train.items()}
    trained = {
        kind: [
            trained_head(features, [targets[name] for name in chosen], len(classes) + 1, config, config.seed + number)
            for number in range(config.seeds)
        ]
        for kind, targets in (("labels", by_labels), ("truth", by_truth))
    }
    del features
    measured = on_val(trunk, trained, val, classes, pictures, config)
    figures = rows(measured, own, classes)
    for name, row in figures.items():
        print(name, row, flush=True)
    if config.json is not None:
        write_figures(
            config.json, figures, weights_of([head.spec.backbone]), {Path(config.head).name: head.file_sha256 or ""}
        )


def labelled(config: Config, images: Sequence[Path], head: ClassHead) -> dict[str, ImageLabels]:
    """everymask's labels of some images by file name; those of an earlier run are read from its store."""
    store = LabelStore(str(config.work / "labels"))
    found = {image.image_id: labels for image, labels in labelled_images(store)} if store.parts() else {}
    missing = [path for path in images if path.name not in found]
    model = everymask.load_model("nano") if missing else None
    for first in range(0, len(missing), _IMAGES_PER_PART):
        new = {}
        for path in missing[first : first + _IMAGES_PER_PART]:
            new[path.name] = everymask.label(path, model or "nano", head=head)
        rows = (ImageRow(name, str(config.voc / "JPEGImages" / name), labels) for name, labels in new.items())
        store.write_part(to_table(rows))
        found |= new
    return {path.name: found[path.name] for path in images}


def restricted(labels: ImageLabels, classes: Sequence[str], size_hw: tuple[int, int]) -> NDArray[np.int32]:
    """(H, W) map of labels: 0 background, else the class's place in `classes` + 1."""
    place = np.zeros(max((int(mask.class_id or 0) for mask in labels.masks), default=0) + 2, dtype=np.int32)
    for mask in labels.masks:
        if mask.class_id is not None and mask.class_name in classes:
            place[mask.class_id + 1] = classes.index(str(mask.class_name)) + 1
    found: NDArray[np.int32] = place[semantic_map(labels)]
    assert found.shape == size_hw
    return found


def trunk_features(trunk: nn.Module, path: Path, config: Config) -> torch.Tensor:
    """(520, side / 8, side / 8) float16 features of a picture that is stretched to a square, kept in `config.work`."""
    kept = config.work / f"features-{config.side}" / f"{path.stem}.npy"
    if kept.is_file():
        return torch.from_numpy(np.load(kept))
    with Image.open(path) as picture:
        pixels = np.array(picture.convert("RGB").resize((config.side, config.side), Image.Resampling.BILINEAR))
    with torch.inference_mode():
        maps = trunk(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())[_COARSE:]
        size = maps[0].shape[-2:]
        scaled = [functional.interpolate(one, size, mode="bilinear", align_corners=False) for one in maps]
        found = torch.cat(scaled, dim=1)[0].half()
    kept.parent.mkdir(parents=True, exist_ok=True)
    draft = kept.with_suffix(".draft.npy")
    np.save(draft, found.numpy())
    draft.replace(kept)
    return found


def trained_head(
    features: Sequence[torch.Tensor], targets: Sequence[NDArray[np.int32]], classes: int, config: Config, seed: int
) -> Head:
    """A head trained on (H, W) maps of values below `classes`, or `VOID`."""
    torch.manual_seed(seed)
    head = Head(classes)
    grid = config.side // _STRIDE
    scaled = torch.stack(
        [functional.interpolate(torch.from_numpy(t)[None, None].float(), (grid, grid), mode="nearest-exact")[0, 0]
         for t in targets]
    ).long()  # fmt: skip
    steps = config.epochs * (-(-len(features) // config.batch))
    optimiser = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(config.epochs):
        order = torch.randperm(len(features)).tolist()
        for first in range(0, len(order), config.batch):
            batch = order[first : first + config.batch]
            inputs, wanted = torch.stack([features[i] for i in batch]).float(), scaled[batch]
            if bool(torch.rand(()) < 0.5):
                inputs, wanted = inputs.flip(-1), wanted.flip(-1)
            loss = functional.cross_entropy(head(inputs), wanted, ignore_index=VOID)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return head.eval()


def on_val(
    trunk: nn.Module,
    trained: Mapping[str, Sequence[Head]],
    truth: dict[str, ClassTruth],
    classes: Sequence[str],
    pictures: Path,
    config: Config,
) -> dict[str, list[ClassMatches]]:
    """Each head's answers on annotated images, at their own size."""
    found: dict[tuple[str, int], dict[str, ImageLabels]] = {
        (kind, number): {} for kind, heads in trained.items() for number in range(len(heads))
    }
    for name, of_image in truth.items():
        features = trunk_features(trunk, pictures / name, config)
        for (kind, number), labels in found.items():
            with torch.inference_mode():
                logits = trained[kind][number](features[None].float())
                logits = functional.interpolate(logits, of_image.size_hw, mode="bilinear", align_corners=False)
            labels[name] = masks_of(logits.argmax(dim=1)[0].numpy() - 1, classes)
    return {
        kind: [match_classes(found[kind, number], truth, classes) for number in range(len(heads))]
        for kind, heads in trained.items()
    }


def masks_of(values: NDArray[np.int64], classes: Sequence[str]) -> ImageLabels:
    """A map of classes, -1 for background, as one mask a class."""
    count = len(classes)
    masks = labelled_masks(
        encode_label_map(values, count),
        predicted_iou=[1.0] * count,
        stability_score=[1.0] * count,
        point_coords=[(0.0, 0.0)] * count,
        score=[1.0] * count,
        class_id=range(count),
        class_names=classes,
    )
    return ImageLabels((values.shape[0], values.shape[1]), tuple(masks), float((values >= 0).mean()))


def rows(
    measured: Mapping[str, Sequence[ClassMatches]], own: ClassMatches, classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """IoU by class in percent: of the heads on val, and of the labels themselves on the training images."""
    figures = {kind: [matches.figures() for matches in found] for kind, found in measured.items()}
    training = own.figures()
    table = {
        "mean": row([one.miou for one in figures["labels"]], [one.miou for one in figures["truth"]], training.miou)
    }
    for name in ("background", *classes):
        by_labels, by_truth = ([one.classes[name].iou for one in figures[kind]] for kind in ("labels", "truth"))
        table[name] = row(by_labels, by_truth, training.classes[name].iou)
    return table


def row(labels: Sequence[float | None], truth: Sequence[float | None], own: float | None) -> dict[str, Any]:
    """Means over the trainings, in percent."""
    by_labels, by_truth = (statistics.fmean([100 * (iou or 0.0) for iou in ious]) for ious in (labels, truth))
    return {
        "trained-on-labels": f"{by_labels:.1f}",
        "trained-on-truth": f"{by_truth:.1f}",
        "ratio": f"{by_labels / by_truth:.2f}" if by_truth >= _LEARNT else "-",
        "labels-themselves": "-" if own is None else f"{100 * own:.1f}",
    }


if __name__ == "__main__":
    main()
