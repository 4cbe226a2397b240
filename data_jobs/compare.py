"""What differs between two label stores of the same images.

    everymask compare --before labels --after better --page differences.html

Masks are matched by IoU, the best pair first. Exit codes: 0 done; 2 usage, or stores without an image in common.
"""

from __future__ import annotations

import heapq
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from data_jobs.evaluation.figures import Figures, table
from data_jobs.runtime.command import Command
from data_jobs.runtime.exit_codes import DONE
from data_jobs.runtime.options import AddressOptions
from data_jobs.runtime.outcome import next_step
from data_jobs.runtime.settings import JOINED
from data_jobs.runtime.waiting import waiting
from everymask.errors import InputError
from everymask.evaluation.comparison import Changes, compare_classes
from everymask.evaluation.pairs_page import Pair, pairs_page
from everymask.files.location import Location
from everymask.images.decoding import ImageLimits
from everymask.labels.address_policy import address_policy
from everymask.labels.corrections import labelled_images
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from everymask.wording import counted

_SHOWN = 24

_Pair = tuple[ImageRow, ImageLabels, ImageLabels]


@dataclass(frozen=True)
class CompareConfig:
    """Two label stores of the same images."""

    before: str
    """Folder or address of the first label store."""
    after: str
    """Folder or address of the second."""
    page: Path | None = None
    """Also write a page of the 24 images that differ most, with both labellings side by side (.html)."""
    uncorrected: bool = False
    """Compare the models' labels, without people's corrections."""
    json: Path | None = None
    """Also write the figures to this file."""
    addresses: Annotated[AddressOptions, JOINED] = field(default_factory=AddressOptions)


@dataclass(frozen=True, order=True)
class _Difference:
    share: float
    image_id: str
    changes: Changes = field(compare=False)
    image: ImageRow = field(compare=False)
    before: ImageLabels = field(compare=False)
    after: ImageLabels = field(compare=False)


def compare(config: CompareConfig) -> int:
    """Print what differs, by class; returns the exit code. Raises EverymaskError."""
    total, images, alone = Changes(), 0, Counter[str]()
    changed: list[_Difference] = []
    by_class: dict[str, Changes] = {}
    store = LabelStore(config.before)
    for image, before, after in _reading(_together(config, alone)):
        classes = compare_classes(before, after)
        changes = sum(classes.values(), Changes())
        total, images = total + changes, images + 1
        for name in classes.keys() - {None}:
            by_class[str(name)] = by_class.get(str(name), Changes()) + classes[name]
        heapq.heappush(changed, _Difference(changes.share, image.image_id, changes, image, before, after))
        if len(changed) > _SHOWN:
            heapq.heappop(changed)
    if not images:
        raise InputError(
            f"{config.before} and {config.after} have no labelled image in common; compare runs of one input"
        )
    figures: Figures = {"all": asdict(total)} | {name: asdict(by_class[name]) for name in sorted(by_class)}
    print(f"{counted(images, 'image')} in both; {alone['before']:,} only before, {alone['after']:,} only after")
    print(table(figures))
    if config.json is not None:
        config.json.write_text(json.dumps({"images": images, **alone, "masks": figures}, indent=2) + "\n")
    if config.page is not None:
        policy = address_policy(store, config.addresses.local_root, config.addresses.allow_private_networks)
        pairs = [
            Pair(one.image, _said(one.changes), one.before, one.after)
            for one in sorted(changed, key=lambda one: (-one.share, one.image_id))
            if one.share > 0
        ]
        page = pairs_page("Images that differ most", "before", "after", pairs, ImageLimits(), policy)
        Location.at(str(config.page)).write(page.encode())
        print(f"look at {config.page}")
    next_step(f"everymask browse {shlex.quote(config.after)}")
    return DONE


def _reading(images: Iterator[_Pair]) -> Iterator[_Pair]:
    """The same images; says so where that takes long."""
    count = 0
    with waiting(lambda: f"comparing, {counted(count, 'image')} so far"):
        for image in images:
            count += 1
            yield image


def _together(config: CompareConfig, alone: Counter[str]) -> Iterator[_Pair]:
    """Images of both stores; the first store's labels are held in memory, the second's stream."""
    corrections = not config.uncorrected
    first = {
        image.image_id: (image, labels) for image, labels in labelled_images(LabelStore(config.before), corrections)
    }
    alone["before"] = len(first)
    for image, labels in labelled_images(LabelStore(config.after), corrections):
        if image.image_id in first:
            alone["before"] -= 1
            yield *first[image.image_id], labels
        else:
            alone["after"] += 1


def _said(changes: Changes) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in asdict(changes).items() if count)


command = Command(
    "compare",
    CompareConfig,
    compare,
    "Say which masks of one label store another one keeps, moves, renames, lacks or adds, in all and by class. Images "
    "are matched by their ids, masks by IoU; a renamed mask counts for the class that it had.",
    interrupted="nothing was compared",
)

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
