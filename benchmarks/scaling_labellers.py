"""Labellers in place of the job's: they book and write as it does, and compute nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from data_jobs.labelling.labeller import Labeller
from data_jobs.labelling.ledger import Bookkeeper
from data_jobs.labelling.model_spec import ModelSpec
from everymask.errors import InputError
from everymask.images.decoding import ImageLimits, decode_image
from everymask.images.difference_hash import difference_hash
from everymask.labelling.label import ImageResult
from everymask.labelling.overlap import File, FileLabels
from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels, LabelledMask

SIZE_HW = (480, 640)
_MASKS = 60


def typical_labels() -> ImageLabels:
    """Sixty rectangles and ellipses: about the bytes that the entities of a photograph take."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    masks = []
    for index in range(_MASKS):
        centre, radius = generator.uniform((0, 0), SIZE_HW), generator.uniform(10, 60, size=2)
        mask = ((rows - centre[0]) / radius[0]) ** 2 + ((columns - centre[1]) / radius[1]) ** 2 < 1
        y, x = np.nonzero(mask)
        box = (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)
        point = (float(x.mean()), float(y.mean()))
        masks.append(LabelledMask(encode_mask(mask), box, int(mask.sum()), 0.9, 0.9, point, 1 - index / _MASKS))
    return ImageLabels(SIZE_HW, tuple(masks), coverage=0.8)


class InstantLabeller(Labeller):
    """The job's labeller, finding nothing in no time; files that cannot be read stay errors."""

    def __init__(self, spec: ModelSpec, ledger: Bookkeeper, together: int) -> None:
        super().__init__(spec, ledger, together)
        self._labeller = self
        self._nothing = FileLabels(ImageResult(ImageLabels(SIZE_HW, (), coverage=0.0)), None)

    def label(self, groups: Iterable[Sequence[File]]) -> Iterator[list[FileLabels]]:
        """No masks for every file."""
        for group in groups:
            yield [
                FileLabels(ImageResult(file), None) if isinstance(file, InputError) else self._nothing for file in group
            ]


class SleepingLabeller(Labeller):
    """The job's labeller, sleeping for a GPU's time instead of running a model; it decodes, and answers sixty masks."""

    seconds_per_image = 0.0

    def __init__(self, spec: ModelSpec, ledger: Bookkeeper, together: int) -> None:
        super().__init__(spec, ledger, together)
        self._labeller = self
        self._answer = ImageResult(typical_labels())
        self._gpu = threading.Lock()

    def label(self, groups: Iterable[Sequence[File]]) -> Iterator[list[FileLabels]]:
        """The same labels for every file."""
        for group in groups:
            hashes = [_hash(file, self._spec.limits) for file in group]
            with self._gpu:
                time.sleep(self.seconds_per_image * len(group))
            yield [FileLabels(self._answer, dhash) for dhash in hashes]


def _hash(file: File, limits: ImageLimits) -> str | None:
    return None if isinstance(file, InputError) else difference_hash(decode_image(file, limits))
