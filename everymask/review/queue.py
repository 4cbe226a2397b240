"""The review queue: the most doubtful images first, and a random share to judge the queue by."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from everymask.errors import ConfigurationError, InputError
from everymask.files.json_text import parse_json
from everymask.files.location import Location
from everymask.files.storage import canonical_uri, one_line
from everymask.labels.corrections import ImageCorrection, is_stale, read_corrections
from everymask.labels.facts import PartFacts, column_or_nan
from everymask.labels.store import LabelStore
from everymask.redaction import redact

Chosen = Literal["doubt", "random"]


@dataclass(frozen=True)
class QueuedImage:
    """One image of the queue.

    Attributes:
        chosen: by `doubt`, or at `random` as a control.
        doubt: the image's doubt, [0, 1].
        largest: doubt of its most doubtful mask, [0, 1]; 1 without masks.
        mean: mean doubt of its masks, [0, 1]; 1 without masks.
        missed: estimated number of the classes' masks that are missing; None for methods without classes.
        coverage: share of its pixels in any mask.
        masks: number of masks.
    """

    image_id: str
    chosen: Chosen
    doubt: float
    largest: float
    mean: float
    coverage: float
    masks: int
    missed: float | None = None


@dataclass(frozen=True)
class Queue:
    """Images for a person to check, most doubtful first, random ones included in that order.

    Attributes:
        candidates: number of images it was chosen from.
        seed: seeds the random draw.
        labels: path or address of the label store, without secrets; None in files of old.
    """

    images: tuple[QueuedImage, ...]
    candidates: int
    seed: int
    labels: str | None = None

    def is_of(self, store: LabelStore) -> bool:
        """Whether it was made of this store, as far as it says."""
        return self.labels in (None, _named(store))

    @property
    def image_ids(self) -> tuple[str, ...]:
        return tuple(image.image_id for image in self.images)


def make_queue(store: LabelStore, most: int, control: float = 0.2, seed: int = 0) -> Queue:
    """Choose images to review, in memory independent of the store's size.

    Images corrected before are left out. The control is drawn first, from all candidates, so it shows what reviewing at
    random would find.

    Args:
        most: images in the queue.
        control: share drawn at random, [0, 1].
        seed: seeds the draw.

    Raises:
        ConfigurationError: `most` is below 1 or `control` outside [0, 1].
        InputError: there is no label store.
    """
    if most < 1 or not 0 <= control <= 1:
        raise ConfigurationError(f"a queue has at least one image and a control in [0, 1]; got {most} and {control}")
    wanted = round(most * control)
    drawn: list[tuple[float, str, QueuedImage]] = []
    worst: list[tuple[float, str, QueuedImage]] = []
    candidates = 0
    for part in _candidates(store):
        candidates += len(part.image_ids)
        _keep(drawn, wanted, part.numbers(seed), part)
        _keep(worst, most, part.doubts, part)
    control_ids = {image_id for _, image_id, _ in drawn}
    by_doubt = [image for _, image_id, image in sorted(worst, reverse=True) if image_id not in control_ids]
    chosen = by_doubt[: most - len(drawn)] + [replace(image, chosen="random") for _, _, image in drawn]
    return Queue(
        tuple(sorted(chosen, key=lambda image: (-image.doubt, image.image_id))), candidates, seed, _named(store)
    )


def _named(store: LabelStore) -> str:
    return redact(canonical_uri(store.uri))


@dataclass(frozen=True)
class _Candidates:
    """N images of one part that nobody has finished."""

    image_ids: list[str]
    doubts: NDArray[np.float64]
    facts: PartFacts
    rows: NDArray[np.int64]

    def numbers(self, seed: int) -> NDArray[np.float64]:
        """(N,) in [0, 1), by the ids alone: a draw is the same however the store is cut into parts."""
        digests = [hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest() for name in self.image_ids]
        return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.float64) / 2**64

    @cached_property
    def _largest_and_mean(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.facts.largest_doubts(), self.facts.mean_doubts()

    def image(self, number: int) -> QueuedImage:
        """One of them, as chosen by doubt."""
        row, facts = int(self.rows[number]), self.facts
        largest, mean = self._largest_and_mean
        missed = float(column_or_nan(facts.images["missed"].slice(row, 1))[0])
        return QueuedImage(
            image_id=self.image_ids[number],
            chosen="doubt",
            doubt=float(self.doubts[number]),
            largest=round(float(largest[row]), 6),
            mean=round(float(mean[row]), 6),
            coverage=float(column_or_nan(facts.images["coverage"].slice(row, 1))[0]),
            masks=int(facts.counts[row]),
            missed=round(missed, 3) if np.isfinite(missed) else None,
        )


def _candidates(store: LabelStore) -> Iterator[_Candidates]:
    known = read_corrections(store)
    for _, facts in store.facts(["coverage", "content_sha256"]):
        image_ids = facts.images["image_id"].to_pylist()
        wanted = ~facts.failed
        if known:
            digests = facts.images["content_sha256"]
            for row in np.flatnonzero(wanted).tolist():
                correction = known.get(image_ids[row])
                if correction is not None and _is_finished(correction, digests[row].as_py()):
                    wanted[row] = False
        rows = np.flatnonzero(wanted)
        doubts = np.round(facts.image_doubts(), 6)[rows]
        yield _Candidates([image_ids[row] for row in rows.tolist()], doubts, facts, rows)


def _is_finished(correction: ImageCorrection, content_sha256: str | None) -> bool:
    return correction.finished and not is_stale(correction, content_sha256)


def _keep(
    heap: list[tuple[float, str, QueuedImage]], most: int, values: NDArray[np.float64], part: _Candidates
) -> None:
    """Keep the `most` images with the greatest values; of equal ones those with the greatest ids."""
    if not most:
        return
    least = heap[0][0] if len(heap) == most else -np.inf
    if len(values) > most:  # of this part, no more than so many, and what equals the last
        least = max(least, float(np.partition(values, -most)[-most]))
    for number in np.flatnonzero(values >= least).tolist():
        entry = (float(values[number]), part.image_ids[number])
        if len(heap) < most:
            heapq.heappush(heap, (*entry, part.image(number)))
        elif entry > heap[0][:2]:
            heapq.heapreplace(heap, (*entry, part.image(number)))


def write_queue(queue: Queue, output: str) -> None:
    """Write a queue as JSON; OutputError if that fails."""
    content = {"everymask": "review queue", **asdict(queue)}
    Location.at(output).write((json.dumps(content, indent=1) + "\n").encode())


def read_queue(uri: str) -> Queue:
    """Read a written queue; InputError if it is missing or malformed."""
    try:
        content: dict[str, Any] = parse_json(Location.at(uri).read())
        images = tuple(QueuedImage(**image) for image in content["images"])
        if not all(isinstance(image.image_id, str) for image in images):
            raise TypeError("an image id is no text")
        return Queue(images, content["candidates"], content["seed"], content.get("labels"))
    except OSError as error:
        raise InputError(f"{uri} cannot be read ({one_line(error)}); make it with `everymask review queue`") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{uri} is no review queue; make one with `everymask review queue`") from error
