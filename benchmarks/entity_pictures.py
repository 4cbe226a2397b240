"""Draw five invented pictures as annotated, as AMG labels them, and as E-SAM does, on one contact sheet.

    python benchmarks/entity_pictures.py --output docs/images/oracle-amg-esam.jpg

The oracle answers clicks with the errors that E-SAM's paper speaks of (docs/decisions/oracle.md): this shows what the
modules mend, not what SAM finds. Nothing but `--seed` decides what is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.entities.segmenter import segment_entities
from everymask.evaluation.disjoint import resolve_overlaps
from everymask.evaluation.entity_ap import match_entities
from everymask.evaluation.ground_truth import EntityTruth
from everymask.masks.label_map import BACKGROUND
from everymask.masks.labelled import labelled_masks
from everymask.masks.rle import encode_label_map
from everymask.pictures.contact_sheet import contact_sheet
from everymask.pictures.overlay import overlay
from everymask.records import ImageLabels
from everymask.research.oracle import LIKE_SAM, OracleBackbone, Scene
from everymask.research.oracle.scene import nested_scene

SIZE_HW = (360, 480)
PICTURES = 5
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PictureConfig:
    """What to draw."""

    output: Path
    """JPEG file to write."""
    seed: int = 0
    """Seed of the pictures and of the oracle's errors."""
    entities: EntityConfig = field(default_factory=lambda: EntityConfig(points_per_side=16, gallery_points_per_side=32))
    """Settings of E-SAM. The grids are coarser than usual, since the drawn objects are large."""
    amg: AmgConfig = field(default_factory=lambda: AmgConfig(points_per_side=16))
    """Settings of AMG."""


class Painter:
    """Paints shapes on a picture and on the maps of its objects, parts and sub-parts at once."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._image = Image.new("RGB", SIZE_HW[::-1])
        self._maps = [Image.new("I", SIZE_HW[::-1]) for _ in range(3)]
        self._numbers = [-1, -1, -1]

    def shape(self, level: int, kind: str, corners: Box | list[tuple[float, float]], colour: tuple[int, ...]) -> None:
        """Paint one shape: a new object (level 0), or a new part (1) or sub-part (2) of the last one."""
        for deeper in range(level, 3):
            self._numbers[deeper] = max(self._numbers) + 1
        shade = tuple(int(channel + self._generator.integers(-12, 13)) for channel in colour)
        getattr(ImageDraw.Draw(self._image), kind)(corners, fill=shade)
        for number, label_map in zip(self._numbers, self._maps, strict=True):
            getattr(ImageDraw.Draw(label_map), kind)(corners, fill=number)

    def scene(self) -> Scene:
        """The painting, with a little grain."""
        grain = self._generator.normal(0, 3, (*SIZE_HW, 1))
        image = (np.asarray(self._image) + grain).clip(0, 255).astype(np.uint8)
        objects, parts, subparts = (np.asarray(label_map, dtype=np.int64) for label_map in self._maps)
        return nested_scene(image, objects, parts, subparts)


def street(seed: int) -> Scene:
    """Sky and grass, a sun, houses with roof, door and windows, trees, a car."""
    generator = np.random.default_rng(seed)
    paint = Painter(generator)
    horizon = int(generator.integers(190, 240))
    paint.shape(0, "rectangle", (0, 0, 480, horizon), (150, 195, 235))
    paint.shape(0, "rectangle", (0, horizon, 480, 360), (105, 160, 80))
    sun = float(generator.integers(40, 420))
    paint.shape(0, "ellipse", (sun, 20, sun + 46, 66), (250, 215, 90))
    for left in (20 + 170 * np.arange(3) + generator.integers(-10, 30, 3)).tolist()[: int(generator.integers(2, 4))]:
        house(paint, left, horizon + float(generator.integers(20, 50)), float(generator.integers(70, 110)), generator)
    for foot in generator.integers(20, 460, 3).tolist():
        base, height = horizon + float(generator.integers(10, 60)), float(generator.integers(70, 120))
        paint.shape(0, "rectangle", (foot - 5, base - height / 2, foot + 5, base), (110, 80, 55))
        paint.shape(1, "ellipse", (foot - 28, base - height, foot + 28, base - height / 3), (50, 110, 60))
    car(paint, float(generator.integers(20, 330)), 335.0, generator)
    return paint.scene()


def house(paint: Painter, left: float, base: float, width: float, generator: np.random.Generator) -> None:
    """Walls with a door and two windows, under a roof."""
    top = base - 0.8 * width
    colour = tuple(int(channel) for channel in generator.integers(150, 235, 3))
    paint.shape(0, "rectangle", (left, top, left + width, base), colour)
    paint.shape(2, "rectangle", (left + 0.4 * width, base - 0.4 * width, left + 0.6 * width, base), (95, 60, 45))
    for share in (0.12, 0.66):
        corner = left + share * width, top + 0.15 * width
        paint.shape(2, "rectangle", (*corner, corner[0] + 0.22 * width, corner[1] + 0.22 * width), (70, 90, 120))
    roof = [(left - 8.0, top), (left + width + 8.0, top), (left + width / 2, top - 0.5 * width)]
    paint.shape(1, "polygon", roof, (165, 65, 55))


def car(paint: Painter, left: float, base: float, generator: np.random.Generator) -> None:
    """A body with a cabin and its window, and two wheels."""
    colour = tuple(int(channel) for channel in generator.integers(30, 230, 3))
    paint.shape(0, "rectangle", (left, base - 48, left + 130, base - 14), colour)
    paint.shape(1, "rectangle", (left + 28, base - 82, left + 100, base - 48), colour)
    paint.shape(2, "rectangle", (left + 38, base - 74, left + 90, base - 52), (190, 215, 230))
    for centre in (left + 30, left + 100):
        paint.shape(1, "ellipse", (centre - 17, base - 30, centre + 17, base + 4), (35, 35, 38))


def annotated(scene: Scene) -> ImageLabels:
    """The objects themselves as labels."""
    objects = np.unique(scene.objects[scene.objects >= 0])
    label_map = np.where(scene.objects < 0, BACKGROUND, np.searchsorted(objects, scene.objects)).astype(np.int32)
    rles = encode_label_map(label_map, len(objects))
    ones = [1.0] * len(objects)
    points = [(0.0, 0.0)] * len(objects)
    masks = labelled_masks(rles, predicted_iou=ones, stability_score=ones, point_coords=points, score=ones)
    return ImageLabels(SIZE_HW, tuple(masks), 1.0)


def main(config: PictureConfig) -> None:
    """Write the contact sheet, and print AP^e of both methods over the five pictures."""
    pictures: list[NDArray[np.uint8]] = []
    captions: list[str] = []
    truth: dict[str, EntityTruth] = {}
    found: dict[str, dict[str, ImageLabels]] = {"AMG": {}, "E-SAM": {}}
    for number in range(PICTURES):
        scene = street(config.seed + number)
        backbone = OracleBackbone([scene], LIKE_SAM, seed=config.seed)
        embedding = backbone.embed([scene.image])[0]
        objects = annotated(scene)
        name = str(number)
        truth[name] = EntityTruth(SIZE_HW, tuple(mask.rle for mask in objects.masks), (False,) * len(objects.masks))
        found["AMG"][name] = resolve_overlaps(segment_amg(backbone, embedding, config.amg))
        found["E-SAM"][name] = segment_entities(backbone, embedding, config.entities)
        shown = {"annotated": objects} | {method: labels[name] for method, labels in found.items()}
        pictures += [overlay(scene.image, labels, alpha=0.85) for labels in shown.values()]
        captions += [f"{method}: {len(labels.masks)}" for method, labels in shown.items()]
    Image.fromarray(contact_sheet(pictures, captions, columns=3, cell=240)).save(config.output, "JPEG", quality=80)
    for method, labels in found.items():
        print(f"{method}: AP^e {100 * match_entities(labels, truth).figures().ap:.1f}")


if __name__ == "__main__":
    main(tyro.cli(PictureConfig, description=__doc__))
