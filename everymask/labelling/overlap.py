"""Overlaps work on several images: the device computes for one while processors decode and refine others.

One copy of the weights, a bounded number of images in memory, answers in order and equal to `label_images`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar, cast

import torch

from everymask.backbone.protocol import PromptableBackbone
from everymask.cores import usable_cores
from everymask.errors import EverymaskError, InputError, UnforeseenError
from everymask.files.storage import one_line
from everymask.images.decoding import DEFAULT_LIMITS, ImageLimits, decode_image
from everymask.images.difference_hash import difference_hash
from everymask.labelling.label import Embedded, ImageLabeller, ImageResult, Ready
from everymask.labelling.turns import StageSeconds, TakesTurns

logger = logging.getLogger(__name__)

T = TypeVar("T")

MOST_AT_ONCE = 4
"""Most images refined at once on a GPU; beyond this, Python's threads only wait for each other (our choice)."""
MEMORY_DELAYS_S = (1.0, 5.0, 20.0)
"""Pauses before a device that had no memory for a single image is asked again: other processes may hold it for a while
(our choice)."""
_BYTES_PER_IMAGE = 2**30
"""Host memory for each further image: decoding 24 megapixels, then its masks."""

File = bytes | InputError
"""An image file's bytes, or the error of reading it."""


def images_at_once(device: torch.device) -> int:
    """How many images are refined at once; 0 on a CPU, where one image uses all processors."""
    if device.type == "cpu":
        return 0
    # macOS does not say how much is free.
    pages = os.sysconf("SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES")
    free_bytes = pages * os.sysconf("SC_PAGE_SIZE")
    return max(2, min(MOST_AT_ONCE, usable_cores(), free_bytes // _BYTES_PER_IMAGE))


@dataclass(frozen=True, slots=True)
class FileLabels:
    """The result of one image file.

    Attributes:
        result: labels, or why there are none.
        dhash: the picture's difference hash; None if it could not be decoded.
        spent: seconds by stage.
    """

    result: ImageResult
    dhash: str | None
    spent: StageSeconds = field(default_factory=StageSeconds)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A decoded file prepared for embedding, or why it is not."""

    image: Ready | ImageResult
    dhash: str | None
    seconds: float


@dataclass(slots=True)
class _Batch:
    """Files embedded together; failed ones already have their result."""

    embedded: list[Embedded | ImageResult]
    dhash: list[str | None]
    decode_s: list[float]
    spent: StageSeconds


class OverlappedLabeller:
    """Labels image files. Threads that call it share the model and the places for images in work."""

    def __init__(
        self,
        backbone: PromptableBackbone,
        steps: ImageLabeller,
        *,
        limits: ImageLimits = DEFAULT_LIMITS,
        together: int = 1,
        at_once: int | None = None,
    ) -> None:
        """
        Args:
            steps: what is done with the model.
            limits: on decoding an image.
            together: most files of a group, which is embedded as a batch.
            at_once: images refined at once, besides those decoded and embedded ahead; 0 does everything in the caller's
                thread, image by image. None: `images_at_once` of the model's device.
        """
        self._backbone = backbone
        self._limits = limits
        self._steps = steps
        self._turn = threading.Lock()
        at_once = images_at_once(backbone.device) if at_once is None else at_once
        self._threads = _Threads(at_once, together) if at_once else None

    def label(self, groups: Iterable[Sequence[File]]) -> Iterator[list[FileLabels]]:
        """Label the files of each group, in order; takes the next group when there is room for it.

        Raises:
            ConfigurationError: the head does not fit the backbone.
            AcceleratorError: the device failed, and this process with it.
        """
        threads = self._threads
        if threads is None:
            for group in groups:
                batch = self._embed([self._decode(file) for file in group])
                yield [self._label(batch, place) for place in range(len(group))]
            return
        waiting: deque[list[Future[FileLabels]]] = deque()
        begun = 0
        for group in groups:
            waiting.append(self._begin(threads, group))
            begun += len(group)
            while waiting and (begun > threads.places or all(file.done() for file in waiting[0])):
                begun -= len(waiting[0])
                yield [file.result() for file in waiting.popleft()]
        for files in waiting:
            yield [file.result() for file in files]

    def _begin(self, threads: _Threads, group: Sequence[File]) -> list[Future[FileLabels]]:
        threads.enter(len(group))
        pictures = [threads.decoders.submit(self._decode, file) for file in group]
        batch = threads.encoder.submit(lambda: self._embed([picture.result() for picture in pictures]))

        def label(place: int) -> FileLabels:
            try:
                return self._label(batch.result(), place)
            finally:
                threads.leave()

        return [threads.labellers.submit(label, place) for place in range(len(group))]

    def _decode(self, file: File) -> _Decoded:
        began = time.perf_counter()
        image: Ready | ImageResult
        dhash = None
        try:
            if isinstance(file, InputError):
                raise file
            pixels = decode_image(file, self._limits)
            dhash = difference_hash(pixels)
            image = self._steps.make_ready(self._backbone, pixels)
        except InputError as error:
            image = ImageResult(error)
        except Exception as error:
            image = _unforeseen(error)
        return _Decoded(image, dhash, time.perf_counter() - began)

    def _embed(self, files: list[_Decoded]) -> _Batch:
        model = TakesTurns(self._backbone, self._turn)
        ready = [file.image for file in files if not isinstance(file.image, ImageResult)]
        found = iter(self._embed_ready(cast(PromptableBackbone, model), ready))
        embedded = [file.image if isinstance(file.image, ImageResult) else next(found) for file in files]
        return _Batch(embedded, [file.dhash for file in files], [file.seconds for file in files], model.settle())

    def _embed_ready(self, model: PromptableBackbone, images: list[Ready]) -> list[Embedded | ImageResult]:
        try:
            return [*self._steps.embed(model, images)] if images else []
        except (EverymaskError, torch.AcceleratorError):
            raise
        except Exception as error:
            if len(images) > 1:
                return [one for image in images for one in self._embed_ready(model, [image])]
            if not isinstance(error, torch.OutOfMemoryError):
                return [_unforeseen(error)]
        try:
            return [*_when_there_is_memory(lambda: self._steps.embed(model, images))]
        except InputError as error:
            return [ImageResult(error)]

    def _label(self, batch: _Batch, place: int) -> FileLabels:
        began = time.perf_counter()
        model = TakesTurns(self._backbone, self._turn)
        result = self._result(cast(PromptableBackbone, model), batch.embedded[place])
        batch.embedded[place] = result  # an embedding is of no use any more
        spent = model.settle()
        share = len(batch.embedded)
        spent.add(StageSeconds(embed=batch.spent.embed / share, device=batch.spent.device / share))
        spent.add(StageSeconds(decode=batch.decode_s[place], refine=time.perf_counter() - began - model.waited_s))
        return FileLabels(result, batch.dhash[place], spent)

    def _result(self, model: PromptableBackbone, embedded: Embedded | ImageResult) -> ImageResult:
        if isinstance(embedded, ImageResult):
            return embedded
        try:
            return _when_there_is_memory(lambda: self._steps.label(model, embedded))
        except InputError as error:
            return ImageResult(error)
        except (EverymaskError, torch.AcceleratorError):
            raise
        except Exception as error:  # one image the library did not foresee must not end a run of a million
            return _unforeseen(error)


class _Threads:
    """Thread pools and the limit on images in work.

    Attributes:
        decoders: bytes to pixels, ahead.
        encoder: pixels to embeddings, one batch ahead.
        labellers: embeddings to labels.
        places: images that may be in work.
    """

    def __init__(self, at_once: int, together: int) -> None:
        self.decoders = ThreadPoolExecutor(max(2, at_once), thread_name_prefix="decode")
        self.encoder = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self.labellers = ThreadPoolExecutor(at_once, thread_name_prefix="label")
        self.places = at_once + 2 * together
        self._free = threading.Semaphore(self.places)
        self._entrance = threading.Lock()

    def enter(self, images: int) -> None:
        """Wait for room for `images`; one group at a time, because two that each hold half would deadlock."""
        with self._entrance:
            for _ in range(images):
                self._free.acquire()

    def leave(self) -> None:
        self._free.release()


def _when_there_is_memory(work: Callable[[], T]) -> T:
    """Do work for one image that the device may have no memory for just now.

    Raises:
        InputError: it had none after `MEMORY_DELAYS_S` either.
    """
    for delay in MEMORY_DELAYS_S:
        try:
            return work()
        except torch.OutOfMemoryError as error:
            logger.warning("the device is out of memory, trying again in %s s: %s", delay, one_line(error))
        # What this process keeps of freed memory, its neighbours on the device cannot have.
        torch.cuda.empty_cache()
        time.sleep(delay)
    try:
        return work()
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"the device was out of memory, {len(MEMORY_DELAYS_S) + 1} times in {sum(MEMORY_DELAYS_S):.0f} s; give "
            "other processes less of it, and run again with --retry-failed"
        ) from error


def _unforeseen(error: Exception) -> ImageResult:
    logger.exception("labelling failed")
    return ImageResult(UnforeseenError(f"labelling failed unexpectedly ({type(error).__name__}: {one_line(error)})"))
