"""Random views of annotated pictures: scale, crop, flip, colour, and objects pasted from other pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.evaluation.ground_truth import UNLABELLED, AnnotatedPicture


@dataclass(frozen=True)
class AugmentConfig:
    """How far random views differ from their picture."""

    smallest_crop: float = 0.5
    """Shortest side of a crop, as a share of the picture's."""
    longest_side: tuple[int, int] = (352, 512)
    """Range of the view's longest side in pixels."""
    paste_probability: float = 0.4
    """Probability that a segment of another picture is pasted in."""
    swarm_share: float = 0.3
    """Share of pastes that paste many small copies, each a segment of its own."""
    jitter: float = 1.0
    """Strength of colour changes; 0 for none."""


def random_view(
    picture: AnnotatedPicture, donor: AnnotatedPicture | None, config: AugmentConfig, rng: np.random.Generator
) -> AnnotatedPicture:
    """A random view of `picture`, possibly with a pasted segment of `donor`."""
    view = _flip(_crop(picture, config, rng), rng)
    if donor is not None:
        view = _paste(view, donor, config, rng)
    return replace(view, image=recolour(view.image, config.jitter, rng))


def resize(picture: AnnotatedPicture, size_hw: tuple[int, int]) -> AnnotatedPicture:
    """The picture at (height, width): antialiased image, nearest labels."""
    size = (size_hw[1], size_hw[0])
    image = np.asarray(Image.fromarray(np.ascontiguousarray(picture.image)).resize(size, Image.Resampling.LANCZOS))
    maps = tuple(
        np.asarray(Image.fromarray(np.ascontiguousarray(m)).resize(size, Image.Resampling.NEAREST))
        for m in picture.label_maps
    )
    return replace(picture, image=image, label_maps=maps)


def _crop(picture: AnnotatedPicture, config: AugmentConfig, rng: np.random.Generator) -> AnnotatedPicture:
    height, width = picture.image.shape[:2]
    share = rng.uniform(config.smallest_crop, 1.0, size=2)
    if rng.random() < 0.3:
        share[:] = 1.0
    crop_h, crop_w = max(1, round(height * share[0])), max(1, round(width * share[1]))
    y, x = int(rng.integers(0, height - crop_h + 1)), int(rng.integers(0, width - crop_w + 1))
    window = (slice(y, y + crop_h), slice(x, x + crop_w))
    cropped = replace(picture, image=picture.image[window], label_maps=tuple(m[window] for m in picture.label_maps))
    scale = rng.uniform(*config.longest_side) / max(crop_h, crop_w)
    stretch = np.exp(rng.normal(0, 0.08))
    return resize(cropped, (max(1, round(crop_h * scale * stretch)), max(1, round(crop_w * scale / stretch))))


def random_square(
    picture: AnnotatedPicture,
    donor: AnnotatedPicture | None,
    side: int,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> AnnotatedPicture:
    """A square of `side` pixels from a view as of `random_view`, without making the whole view.

    May hold a pasted segment of `donor`. Grey and unlabelled where the view is smaller than the square.
    """
    sides = np.array(picture.image.shape[:2])
    scale = rng.uniform(*config.longest_side) / (sides.max() * rng.uniform(config.smallest_crop, 1))
    window_hw = np.minimum(np.ceil(side / scale), sides).astype(int)
    y, x = (int(value) for value in rng.integers(0, sides - window_hw + 1))
    window = (slice(y, y + window_hw[0]), slice(x, x + window_hw[1]))
    view = replace(picture, image=picture.image[window], label_maps=tuple(m[window] for m in picture.label_maps))
    height, width = (int(length) for length in (window_hw * scale).round().clip(1, side))
    view = _flip(resize(view, (height, width)), rng)
    if donor is not None:
        view = _paste(view, donor, config, rng)
    missing = [(0, side - height), (0, side - width)]
    return replace(
        view,
        image=np.pad(recolour(view.image, config.jitter, rng), [*missing, (0, 0)], constant_values=127),
        label_maps=tuple(np.pad(m, missing, constant_values=UNLABELLED) for m in view.label_maps),
    )


def _flip(view: AnnotatedPicture, rng: np.random.Generator) -> AnnotatedPicture:
    """Mirror left and right, half of the time."""
    if rng.random() < 0.5:
        return view
    return replace(view, image=view.image[:, ::-1], label_maps=tuple(m[:, ::-1] for m in view.label_maps))


def _paste(
    view: AnnotatedPicture, donor: AnnotatedPicture, config: AugmentConfig, rng: np.random.Generator
) -> AnnotatedPicture:
    """Paste a segment of 1 to 40 % of `donor` in front: once and large, or many times and small."""
    labels = donor.label_maps[int(rng.integers(len(donor.label_maps)))]
    values, counts = np.unique(labels[labels != UNLABELLED], return_counts=True)
    fitting = values[(counts > 0.01 * labels.size) & (counts < 0.4 * labels.size)]
    if len(fitting) == 0:
        return view
    mask = labels == rng.choice(fitting)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    image, maps = view.image.copy(), [label_map.copy() for label_map in view.label_maps]
    swarm = rng.random() < config.swarm_share
    share = rng.uniform(0.06, 0.2) if swarm else rng.uniform(0.15, 0.6)
    piece, shape = _scaled(donor.image[window], mask[window], share, image.shape[:2])
    place = _side_by_side if swarm else _anywhere
    for y, x in place(shape.shape, image.shape[:2], rng):
        flipped = slice(None, None, int(rng.choice((-1, 1))))
        copy = recolour(piece[:, flipped], config.jitter / 3, rng) if swarm else piece[:, flipped]
        target = (slice(y, y + shape.shape[0]), slice(x, x + shape.shape[1]))
        inside = shape[:, flipped]
        image[target][inside] = copy[inside]
        for label_map in maps:
            label_map[target][inside] = label_map.max() + 1
    return replace(view, image=image, label_maps=tuple(maps))


def _scaled(
    piece: NDArray[np.uint8], shape: NDArray[np.bool_], share: float, within_hw: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A cut-out and its mask, resized so that its longest side is `share` of `within_hw`'s and it fits inside."""
    scale = share * max(within_hw) / max(shape.shape)
    height, width = (min(most, max(1, round(side * scale))) for most, side in zip(within_hw, shape.shape, strict=True))
    resized = Image.fromarray(np.ascontiguousarray(piece)).resize((width, height), Image.Resampling.LANCZOS)
    mask = Image.fromarray(np.ascontiguousarray(shape)).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized), np.asarray(mask)


def _anywhere(shape_hw: tuple[int, ...], within_hw: tuple[int, ...], rng: np.random.Generator) -> list[tuple[int, int]]:
    """One random corner (y, x) that keeps a cut-out inside."""
    y, x = (int(rng.integers(0, whole - part + 1)) for whole, part in zip(within_hw, shape_hw, strict=True))
    return [(y, x)]


def _side_by_side(
    shape_hw: tuple[int, ...], within_hw: tuple[int, ...], rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Corners (y, x) of a loose grid of copies that hardly touch, like coins, windows or people."""
    step = np.ceil(np.array(shape_hw) * rng.uniform(0.95, 1.5, 2)).astype(int)
    room = np.maximum(1, (np.array(within_hw) - shape_hw) // step + 1)
    count = np.minimum(room, rng.integers(2, 6, 2))
    first = rng.integers(0, np.maximum(1, np.array(within_hw) - shape_hw - step * (count - 1) + 1))
    most = np.array(within_hw) - shape_hw
    corners = []
    for row in range(count[0]):
        for column in range(count[1]):
            nudge = rng.normal(0, 0.06, 2) * shape_hw
            y, x = (first + step * (row, column) + nudge).round().astype(int).clip(0, most)
            corners.append((int(y), int(x)))
    return corners


def recolour(image: NDArray[np.uint8], strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    values = image.astype(np.float32)
    grey = values.mean(axis=2, keepdims=True)
    values = grey + (values - grey) * (1 + strength * rng.uniform(-0.4, 0.4))
    values = values * (1 + strength * rng.uniform(-0.25, 0.25)) + strength * rng.uniform(-20, 20)
    values = values * (1 + strength * rng.uniform(-0.08, 0.08, size=3))
    if strength > 0 and rng.random() < 0.2:
        values = values + rng.normal(0, strength * rng.uniform(0, 8), size=values.shape)
    if strength > 0 and rng.random() < 0.1 * strength:
        values = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
    return values.clip(0, 255).astype(np.uint8)
