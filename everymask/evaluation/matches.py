"""Matches of masks with ground truth, and their average precision with any weights of the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""COCO's thresholds, to the bit."""
_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class MaskMatches:
    """D predicted masks of I images, in descending score, matched with the truth at every IoU threshold.

    Attributes:
        image: (D,) int64 in [0, I).
        rank: (D,) int64, place among the masks of its image.
        right: (10, D) bool, matched with an object.
        ignored: (10, D) bool, matched with a group, so neither right nor wrong.
        objects: (I,) int64, objects of each image, without groups.
    """

    image: NDArray[np.int64]
    rank: NDArray[np.int64]
    right: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    objects: NDArray[np.int64]

    @classmethod
    def of(cls, evaluated: Sequence[Any], objects: NDArray[np.int64]) -> Self:
        """From pycocotools' results, one per image in order of ids from 1; None for an image with nothing to match."""
        image, rank, score = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        right, ignored = [np.zeros((len(IOU_THRESHOLDS), 0), dtype=np.bool_)], []
        ignored.append(right[0])
        for result in evaluated:
            if result is None:
                continue
            count = len(result["dtScores"])
            image.append(np.full(count, result["image_id"] - 1))
            rank.append(np.arange(count))
            score.append(np.asarray(result["dtScores"], dtype=np.float64))
            ignored.append(np.asarray(result["dtIgnore"], dtype=np.bool_).reshape(len(IOU_THRESHOLDS), count))
            right.append((np.asarray(result["dtMatches"]).reshape(len(IOU_THRESHOLDS), count) > 0) & ~ignored[-1])
        order = np.argsort(-np.concatenate(score), kind="stable")
        return cls(
            image=np.concatenate(image)[order],
            rank=np.concatenate(rank)[order],
            right=np.concatenate(right, axis=1)[:, order],
            ignored=np.concatenate(ignored, axis=1)[:, order],
            objects=objects,
        )

    def average_precisions(
        self, weights: NDArray[np.int64] | None = None, max_dets: int | None = None
    ) -> NDArray[np.float64]:
        """(10,) average precision at each IoU threshold, interpolated at 101 recalls as by pycocotools.

        `weights` (I,) says how often each image counts (default once); `max_dets` limits an image to its
        highest-scoring masks.
        """
        times = np.ones(len(self.objects), dtype=np.int64) if weights is None else weights
        total = int((times * self.objects).sum())
        if not total or not len(self.image):
            return np.zeros(len(IOU_THRESHOLDS))
        counted = times[self.image] if max_dets is None else times[self.image] * (self.rank < max_dets)
        true = np.cumsum(self.right * counted, axis=1)
        false = np.cumsum(~(self.right | self.ignored) * counted, axis=1)
        precision = true / np.maximum(true + false, 1)
        best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        means = []
        for reached, best in zip(true / total, best_from_here, strict=True):
            place = np.searchsorted(reached, _RECALLS, side="left")
            means.append(best[place[place < len(best)]].sum() / len(_RECALLS))
        return np.array(means)

    def bootstrap(self, samples: int, seed: int = 0) -> NDArray[np.float64]:
        """(samples,) mean average precision of sets of I images, drawn by `drawn_images`."""
        drawn = drawn_images(len(self.objects), samples, seed)
        return np.array([self.average_precisions(weights).mean() for weights in drawn])


def drawn_images(images: int, samples: int, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """How often each of I images occurs in each of `samples` sets of I drawn with replacement.

    The same seed draws the same images for any predictions, so that two can be compared pairwise.
    """
    generator = np.random.default_rng(seed)
    return (np.bincount(generator.integers(images, size=images), minlength=images) for _ in range(samples))
