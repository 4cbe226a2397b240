"""Reports a run's results early and again with each shard, and stops the run at limits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_jobs.labelling.cost import CostLimit
from data_jobs.labelling.limits import tolerated
from everymask.labels.overview import Overview
from everymask.labels.parts import PartSummary
from everymask.wording import counted

FIRST_IMAGES = 1000
"""A run first reports its results after this many images, and limits in per cent begin to count."""

_GOES_ON = "What is finished is kept; the same command with another limit goes on"

MADE_SCHEMA = pa.schema(
    [
        ("empty", pa.int64()),  # images without a mask that did not fail
        ("single", pa.int64()),  # images with one mask
        ("class_names", pa.list_(pa.string())),
        ("class_masks", pa.list_(pa.int64())),  # how many masks each of these has
        ("overview", pa.string()),  # JSON, `everymask.labels.overview`
    ]
)
"""What guards and summaries need of a part beside its counts."""


def made(rows: pa.Table) -> dict[str, Any]:
    """One row of `MADE_SCHEMA` for rows of the label store."""
    counts = pc.list_value_length(rows["masks"])
    ok = pc.equal(rows["status"], "ok")
    names = pc.struct_field(pc.list_flatten(rows["masks"]), "class_name").drop_null().value_counts()
    return {
        "empty": pc.sum(pc.and_(ok, pc.equal(pc.fill_null(counts, 0), 0))).as_py() or 0,
        "single": pc.sum(pc.equal(counts, 1)).as_py() or 0,
        "class_names": names.field("values").to_pylist(),
        "class_masks": names.field("counts").to_pylist(),
        "overview": json.dumps(Overview.of_rows(rows).as_tree()),
    }


def overview_of(part: Mapping[str, Any]) -> Overview:
    """What stands out in a part, from the row that its writer returned."""
    return Overview.from_tree(json.loads(part["overview"]))


def summary_of(part: Mapping[str, Any]) -> PartSummary:
    """The counts of a part, from the row that its writer returned."""
    return PartSummary(part["images"], part["errors"], part["masks"], part["seconds"])


class LimitPassed(Exception):
    """More images failed, or are empty, than the limits allow, or all would cost more."""


class Guard:
    """Adds up a run's results.

    Args:
        max_errors: as `tolerated` reads it.
        max_empty: the same for images without a mask; None for no limit.
        cost: the most that all may cost; None for no limit.
    """

    def __init__(self, max_errors: str, max_empty: str | None, cost: CostLimit | None = None) -> None:
        self._max_errors, self._max_empty, self._cost = max_errors, max_empty, cost
        self._images = self._errors = self._masks = self._empty = self._single = 0
        self._seconds = 0.0
        self._expected: Callable[[], int] = lambda: self._images
        self._classes: Counter[str] = Counter()
        self._said = False

    def expect(self, images: Callable[[], int]) -> None:
        """`images` tells how many this attempt will label, as far as that is known."""
        self._expected = images

    def add(self, part: Mapping[str, Any]) -> None:
        """Count a part by its summary and its `MADE_SCHEMA`.

        Raises:
            LimitPassed: a limit was passed, once `FIRST_IMAGES` are done.
        """
        self._images += part["images"]
        self._errors += part["errors"]
        self._masks += part["masks"]
        self._seconds += part["seconds"]
        self._empty += part["empty"]
        self._single += part["single"]
        self._classes.update(dict(zip(part["class_names"], part["class_masks"], strict=True)))
        if self._images >= FIRST_IMAGES:
            if not self._said:
                self._said = True
                print(f"so far {self}", flush=True)
            self._check()

    def __str__(self) -> str:
        """`1,024 images: 2.0 % empty, 1.0 % with one mask, 0.1 % errors, 31.5 masks each; 80 % of masks are cat`."""
        if not self._images:
            return "no image yet"
        shares = [(self._empty, "empty"), (self._single, "with one mask"), (self._errors, "errors")]
        told = ", ".join(f"{count / self._images:.1%} {what}" for count, what in shares)
        text = f"{counted(self._images, 'image')}: {told}, {self._masks / self._images:.1f} masks each"
        if self._classes:
            name, count = self._classes.most_common(1)[0]
            text += f"; {count / self._classes.total():.0%} of the masks are {name}"
        if self._cost is not None:
            text += f"; all will cost about {self._cost_of_all(self._cost):.3g}"
        return text

    def _cost_of_all(self, limit: CostLimit) -> float:
        return limit.estimate(self._images, self._seconds, max(self._expected() - self._images, 0))

    def _check(self) -> None:
        for count, what, option, limit in (
            (self._errors, "failed", "--max-errors", self._max_errors),
            (self._empty, "have no mask", "--max-empty", self._max_empty),
        ):
            if limit is not None and count > tolerated(limit, self._images, option[2:]):
                raise LimitPassed(
                    f"{count:,} of the first {self._images:,} images {what}, more than {option} {limit}: the run "
                    f"stops. {_GOES_ON}"
                )
        if self._cost is not None and (cost := self._cost_of_all(self._cost)) > self._cost.most:
            raise LimitPassed(
                f"by the first {self._images:,} images all will cost about {cost:.3g}, more than --max-cost "
                f"{self._cost.most:g}: the run stops. {_GOES_ON}"
            )
