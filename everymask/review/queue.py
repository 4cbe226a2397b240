"""The review queue: the most doubtful images first, and a random share to judge the queue by."""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from everymask.errors import ConfigurationError, InputError
from everymask.files.json_text import parse_json
from everymask.files.location import Location
from everymask.files.storage import canonical_uri, one_line
from everymask.labels.corrections import ImageCorrection, is_stale, read_corrections
from everymask.labels.facts import column_or_nan
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
    for image in _candidates(store):
        candidates += 1
        # A number that depends on the id alone: the draw is the same however the store is cut into parts.
        _keep(drawn, wanted, random.Random(f"{seed} {image.image_id}").random(), image)
        _keep(worst, most, image.doubt, image)
    control_ids = {image_id for _, image_id, _ in drawn}
    by_doubt = [image for _, image_id, image in sorted(worst, reverse=True) if image_id not in control_ids]
    chosen = by_doubt[: most - len(drawn)] + [replace(image, chosen="random") for _, _, image in drawn]
    return Queue(
        tuple(sorted(chosen, key=lambda image: (-image.doubt, image.image_id))), candidates, seed, _named(store)
    )


def _named(store: LabelStore) -> str:
    return redact(canonical_uri(store.uri))


def _candidates(store: LabelStore) -> Iterator[QueuedImage]:
    known = read_corrections(store)
    for _, facts in store.facts(["coverage", "content_sha256"]):
        image_ids = facts.images["image_id"].to_pylist()
        digests = facts.images["content_sha256"] if known else None
        coverage = column_or_nan(facts.images["coverage"]).tolist()
        missed = column_or_nan(facts.images["missed"])
        known_missed = np.isfinite(missed).tolist()
        columns = (facts.image_doubts(), facts.largest_doubts(), facts.mean_doubts())
        doubts, largest, mean = (np.round(column, 6).tolist() for column in columns)
        counts = facts.counts.tolist()
        for row in np.flatnonzero(~facts.failed).tolist():
            image_id = image_ids[row]
            correction = known.get(image_id)
            if correction is not None and _is_finished(correction, digests[row].as_py() if digests else None):
                continue
            yield QueuedImage(
                image_id=image_id,
                chosen="doubt",
                doubt=doubts[row],
                largest=largest[row],
                mean=mean[row],
                coverage=coverage[row],
                masks=counts[row],
                missed=round(float(missed[row]), 3) if known_missed[row] else None,
            )


def _is_finished(correction: ImageCorrection, content_sha256: str | None) -> bool:
    return correction.finished and not is_stale(correction, content_sha256)


def _keep(heap: list[tuple[float, str, QueuedImage]], most: int, value: float, image: QueuedImage) -> None:
    """Keep the `most` images with the greatest values."""
    heapq.heappush(heap, (value, image.image_id, image))
    if len(heap) > most:
        heapq.heappop(heap)


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
