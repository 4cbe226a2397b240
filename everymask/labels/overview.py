"""What stands out in rows of a label store: kinds of errors with examples, and the slowest images."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

EXAMPLES = 3
"""Most examples of a kind."""
SLOWEST = 5
"""Most of the slowest images."""
MAX_KINDS = 40
"""Further kinds are counted as `OTHER`."""
OTHER = "other"
COLUMNS = ("image_id", "status", "error", "seconds")
"""What is read of a row."""

_DETAIL = re.compile(r"\s*(?:[(;].*|'[^']*'.*|\"[^\"]*\".*)$", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])\d[\d,.]*\d|(?<![\w.])\d")


def error_kind(error: str | None) -> str:
    """An error without its details: `the file has 9 bytes, more than …` → `the file has N bytes, more than …`.

    What follows a bracket, a quotation or a semicolon is left out: details and remedies, as our errors are worded.
    """
    kind = _NUMBER.sub("N", _DETAIL.sub("", error or "")).strip()
    return kind or "it failed"


@dataclass(frozen=True)
class Failures:
    """The images that failed in one way: their number, and (image id, error) of the first ones."""

    count: int = 0
    examples: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: Failures) -> Failures:
        return Failures(self.count + other.count, (*self.examples, *other.examples)[:EXAMPLES])


@dataclass(frozen=True)
class Overview:
    """What stands out.

    Attributes:
        failures: by kind of error.
        slowest: (image id, seconds), slowest first.
    """

    failures: Mapping[str, Failures] = field(default_factory=dict)
    slowest: Sequence[tuple[str, float]] = ()

    @classmethod
    def of_rows(cls, rows: pa.Table | pa.RecordBatch) -> Overview:
        """The overview of rows with `COLUMNS`."""
        failures: dict[str, Failures] = {}
        failed = rows.filter(pc.equal(rows["status"], "error"))
        for image_id, error in zip(failed["image_id"].to_pylist(), failed["error"].to_pylist(), strict=True):
            _add(failures, error_kind(error), Failures(1, ((image_id, error or "it failed"),)))
        # Images that share their place in a batch share their seconds: the id decides, so that the answer is the same.
        order = [("seconds", "descending"), ("image_id", "ascending")]
        timed = rows.select(["image_id", "seconds"])
        timed = timed.filter(pc.greater(pc.fill_null(timed["seconds"], 0.0), 0.0))
        top = timed.take(pc.select_k_unstable(timed, k=SLOWEST, sort_keys=order))
        return cls(failures, [*zip(top["image_id"].to_pylist(), top["seconds"].to_pylist(), strict=True)])

    def __add__(self, other: Overview) -> Overview:
        failures = dict(self.failures)
        for kind, found in other.failures.items():
            _add(failures, kind, found)
        slowest = heapq.nsmallest(SLOWEST, [*self.slowest, *other.slowest], key=lambda image: (-image[1], image[0]))
        return Overview(failures, slowest)

    @property
    def errors(self) -> int:
        """Images that failed."""
        return sum(found.count for found in self.failures.values())

    def as_tree(self) -> dict[str, Any]:
        """For JSON: kinds of errors by their number, and the slowest images."""
        most_first = sorted(self.failures.items(), key=lambda item: (-item[1].count, item[0]))
        return {
            "errors": [
                {
                    "kind": kind,
                    "images": found.count,
                    "examples": [{"image_id": image_id, "error": error} for image_id, error in found.examples],
                }
                for kind, found in most_first
            ],
            "slowest": [{"image_id": image_id, "seconds": round(seconds, 3)} for image_id, seconds in self.slowest],
        }

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Overview:
        """Read again what `as_tree` gave."""
        failures = {
            kind["kind"]: Failures(kind["images"], tuple((one["image_id"], one["error"]) for one in kind["examples"]))
            for kind in tree["errors"]
        }
        return cls(failures, [(image["image_id"], image["seconds"]) for image in tree["slowest"]])

    def lines(self) -> list[str]:
        """For a person: a line for each kind of error, and one for the slowest images."""
        lines = []
        for kind in self.as_tree()["errors"]:
            examples = ", ".join(example["image_id"] for example in kind["examples"])
            more = ", …" if kind["images"] > len(kind["examples"]) else ""
            lines.append(f"{kind['images']:,} × {kind['kind']}: {examples}{more}")
        if self.slowest:
            lines.append(f"slowest: {', '.join(f'{image_id} {seconds:.3g} s' for image_id, seconds in self.slowest)}")
        return lines


def overview(batches: Iterable[pa.RecordBatch]) -> Overview:
    """The overview of batches of rows with `COLUMNS`."""
    found = Overview()
    for batch in batches:
        found += Overview.of_rows(batch)
    return found


def _add(failures: dict[str, Failures], kind: str, found: Failures) -> None:
    if kind not in failures and len(failures) >= MAX_KINDS:
        kind = OTHER
    failures[kind] = failures.get(kind, Failures()) + found
