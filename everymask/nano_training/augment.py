"""Random views of annotated pictures: scale, crop, flip, colour, and objects copied from other pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.evaluation.ground_truth import UNLABELLED, AnnotatedPicture


@dataclass(frozen=True)
class AugmentConfig:
    """How far a random view may be from its picture."""

    smallest_crop: float = 0.5
    """Shortest side of a crop, as a share of the picture's."""
    longest_side: tuple[int, int] = (352, 512)
    """Range of the view's longest side in pixels."""
    paste_probability: float = 0.4
    """Chance that a segment of another picture is pasted in."""
    jitter: float = 1.0
    """Strength of the colour changes; 0 for none."""


def random_view(
    picture: AnnotatedPicture, donor: AnnotatedPicture | None, config: AugmentConfig, rng: np.random.Generator
) -> AnnotatedPicture:
    """A random view of `picture`, with a segment of `donor`, if there is one, pasted in."""
    view = _flip(_crop(picture, config, rng), rng)
    if donor is not None:
        view = _paste(view, donor, rng)
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
    """A square of `side` pixels cut from a view like those of `random_view`, without making the whole view.

    A segment of `donor`, if there is one, is pasted in. Grey and unlabelled where the view is smaller than the square.
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
        view = _paste(view, donor, rng)
    missing = [(0, side - height), (0, side - width)]
    return replace(
        view,
        image=np.pad(recolour(view.image, config.jitter, rng), [*missing, (0, 0)], constant_values=127),
        label_maps=tuple(np.pad(m, missing, constant_values=UNLABELLED) for m in view.label_maps),
    )


def _flip(view: AnnotatedPicture, rng: np.random.Generator) -> AnnotatedPicture:
    """Left and right exchanged, half of the time."""
    if rng.random() < 0.5:
        return view
    return replace(view, image=view.image[:, ::-1], label_maps=tuple(m[:, ::-1] for m in view.label_maps))


def _paste(view: AnnotatedPicture, donor: AnnotatedPicture, rng: np.random.Generator) -> AnnotatedPicture:
    """One segment of `donor` of 1 to 40 % of its picture, at a random place and scale, in front of everything."""
    labels = donor.label_maps[int(rng.integers(len(donor.label_maps)))]
    values, counts = np.unique(labels[labels != UNLABELLED], return_counts=True)
    fitting = values[(counts > 0.01 * labels.size) & (counts < 0.4 * labels.size)]
    if len(fitting) == 0:
        return view
    mask = labels == rng.choice(fitting)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    piece, shape = donor.image[window], mask[window]
    height, width = view.image.shape[:2]
    scale = rng.uniform(0.15, 0.6) * max(height, width) / max(shape.shape)
    size = (min(width, max(1, round(shape.shape[1] * scale))), min(height, max(1, round(shape.shape[0] * scale))))
    piece = np.asarray(Image.fromarray(np.ascontiguousarray(piece)).resize(size, Image.Resampling.LANCZOS))
    shape = np.asarray(Image.fromarray(np.ascontiguousarray(shape)).resize(size, Image.Resampling.NEAREST))
    if rng.random() < 0.5:
        piece, shape = piece[:, ::-1], shape[:, ::-1]
    y, x = int(rng.integers(0, height - size[1] + 1)), int(rng.integers(0, width - size[0] + 1))
    target = (slice(y, y + size[1]), slice(x, x + size[0]))
    image = view.image.copy()
    image[target][shape] = piece[shape]
    maps = []
    for label_map in view.label_maps:
        changed = label_map.copy()
        changed[target][shape] = label_map.max() + 1
        maps.append(changed)
    return replace(view, image=image, label_maps=tuple(maps))


def recolour(image: NDArray[np.uint8], strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    values = image.astype(np.float32)
    grey = values.mean(axis=2, keepdims=True)
    values = grey + (values - grey) * (1 + strength * rng.uniform(-0.4, 0.4))
    values = values * (1 + strength * rng.uniform(-0.25, 0.25)) + strength * rng.uniform(-20, 20)
    values = values * (1 + strength * rng.uniform(-0.08, 0.08, size=3))
    if strength > 0 and rng.random() < 0.2:
        values = values + rng.normal(0, strength * rng.uniform(0, 8), size=values.shape)
    if strength > 0 and rng.random() < 0.05:
        values = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
    return values.clip(0, 255).astype(np.uint8)
