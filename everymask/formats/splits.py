"""Which images of an export are for training, validation and test.

A digest of its content decides an image's split, so adding images does not move it. Images of equal content,
near-duplicates and frames of one video form a group, and the member with the smallest digest decides; only an added
image that joins the group with a smaller digest can move it. Every export with splits holds `splits.csv`, which a later
export can take as its split file.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from everymask.errors import ConfigurationError, EverymaskError, InputError
from everymask.files.addresses import AddressPolicy
from everymask.files.location import Location
from everymask.files.storage import one_line, split_query
from everymask.formats.near_duplicates import alike, thumbnail
from everymask.images.decoding import ImageLimits, decode_image
from everymask.images.files import read_labelled_bytes
from everymask.labels.members import read_member
from everymask.labels.store import LabelStore
from everymask.records import Member
from everymask.wording import counted

SPLITS = ("train", "val", "test")
SPLITS_FILE = "splits.csv"
_HEADER = ["image_id", "split"]
_SHARED_FILES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".tif", ".tiff", ".gif")
"""Endings of files that hold frames or pages of one thing; an archive's images are independent."""
_MAX_SHOWN = 5


@dataclass(frozen=True)
class SplitOptions:
    """How images are split.

    Attributes:
        shares: of `SPLITS`, positive, one to three; empty if a file names every image's split.
        by: `folder`, or a column of the label store whose equal values keep images together, and nothing else does.
            None looks for near-duplicates.
        file: a CSV file with the columns image_id and split.
    """

    shares: tuple[float, ...] = ()
    by: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if self.by and not self.shares:
            raise ConfigurationError(
                "--split-by says what stays together; give the shares as well: --split 0.8/0.1/0.1"
            )

    @classmethod
    def parse(cls, shares: str | None, by: str | None, file: str | None) -> SplitOptions | None:
        """From the command line, with shares as 0.8/0.1/0.1; None if no option is given.

        Raises:
            ConfigurationError: not one to three positive numbers.
        """
        if shares is None and by is None and file is None:
            return None
        try:
            numbers = tuple(float(share) for share in shares.split("/")) if shares is not None else ()
        except ValueError:
            numbers = (-1.0,)
        if len(numbers) > len(SPLITS) or any(not 0 < number < float("inf") for number in numbers):
            raise ConfigurationError(
                f"--split takes the shares of train, val and test as positive numbers, 0.8/0.1/0.1; got {shares}"
            )
        return cls(numbers, by, file)


@dataclass(frozen=True)
class SplitPlan:
    """The split of every image to export.

    Attributes:
        of: split by image id; empty if the export has no splits.
        unread: images that could not be read, and so were not compared with others.
    """

    of: dict[str, str] = field(default_factory=dict)
    unread: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the splits: train, val and test first."""
        found = set(self.of.values())
        return (*(name for name in SPLITS if name in found), *sorted(found.difference(SPLITS)))

    def csv(self) -> str:
        """The content of a split file for a later export."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([_HEADER, *sorted(self.of.items())])
        return text.getvalue()


@dataclass
class SplitCounts:
    """Images by split, and masks by class and split."""

    images: Counter[str] = field(default_factory=Counter)
    masks: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, split: str, class_names: Iterable[str]) -> None:
        self.images[split] += 1
        for name in class_names:
            self.masks.setdefault(name, Counter())[split] += 1

    def merge(self, other: SplitCounts) -> None:
        self.images.update(other.images)
        for name, counts in other.masks.items():
            self.masks.setdefault(name, Counter()).update(counts)

    def lines(self, splits: Sequence[str], classes: Sequence[str]) -> list[str]:
        """Lines: the images, each class, which split lacks which class, and the classes that no image shows."""
        unseen = [name for name in classes if not self.masks.get(name, Counter()).total()]
        shown = [name for name in classes if name not in unseen]
        width = max(map(len, ["images", *shown]))

        def row(name: str, counts: Counter[str]) -> str:
            return f"  {name:<{width}}  " + "  ".join(f"{split} {counts[split]:,}" for split in splits)

        counted = {name: self.masks[name] for name in shown}
        missing = [f"no {name} in {split}" for name, counts in counted.items() for split in splits if not counts[split]]
        lines = ["splits:", row("images", self.images), *(row(name, counts) for name, counts in counted.items())]
        if missing:
            lines.append(f"missing: {', '.join(missing)}")
        if unseen:
            lines.append(f"in no image: {', '.join(unseen)}")
        return lines


def plan_splits(
    store: LabelStore, image_ids: Sequence[str], options: SplitOptions, limits: ImageLimits, policy: AddressPolicy
) -> SplitPlan:
    """Decide every image's split.

    Args:
        image_ids: those to export.
        limits: on reading an image.
        policy: which image addresses may be opened.

    Raises:
        ConfigurationError: the file lacks an image and no shares are given, or there is no such column.
        InputError: the file or the store cannot be read.
    """
    listed = read_split_file(options.file) if options.file else {}
    wanted = set(image_ids)
    if not options.shares:
        if missing := [image_id for image_id in image_ids if image_id not in listed]:
            shown = ", ".join(missing[:_MAX_SHOWN])
            raise ConfigurationError(
                f"{options.file} names no split for {counted(len(missing), 'image')} ({shown}); add them, or give "
                "--split 0.8/0.1/0.1 as well, for those that are not listed"
            )
        return SplitPlan({image_id: listed[image_id] for image_id in image_ids})
    columns = ["image_id", "uri", "member", "content_sha256", "status"]
    if options.by not in (None, "folder"):
        columns.append(_checked_column(store, options.by))
    ids, keys, groups, sources = [], [], [], []
    for batch in store.batches(list(dict.fromkeys(columns)), batch_size=4096):
        for row in batch.to_pylist():
            if row["status"] == "error" or row["image_id"] not in wanted:
                continue
            ids.append(row["image_id"])
            sources.append((row["uri"], row["content_sha256"], read_member(row["member"])))
            keys.append(row["content_sha256"] or _digest(row["image_id"]))
            if options.by is None:
                groups.append(_shared_file(row["uri"]) or keys[-1])
            else:
                value = str(PurePosixPath(row["image_id"]).parent) if options.by == "folder" else row[options.by]
                groups.append(repr(value))
    unread = 0
    if options.by is None:
        groups, unread = _joined(groups, sources, limits, policy)
    else:
        keys = [_digest(group) for group in groups]
    return SplitPlan(_assigned(ids, keys, groups, options.shares, listed), unread)


def _assigned(
    ids: Sequence[str], keys: Sequence[str], groups: Sequence[str], shares: Sequence[float], listed: dict[str, str]
) -> dict[str, str]:
    least: dict[str, str] = {}
    pinned: dict[str, str] = {}
    for image_id, key, group in sorted(zip(ids, keys, groups, strict=True)):
        least[group] = min(key, least.get(group, key))
        if image_id in listed:
            pinned.setdefault(group, listed[image_id])
    return {
        image_id: listed.get(image_id) or pinned.get(group) or _split_of(least[group], shares)
        for image_id, group in zip(ids, groups, strict=True)
    }


def _split_of(key: str, shares: Sequence[float]) -> str:
    """The split of a digest: its place in [0, 1), divided in proportion to the shares."""
    place = int(_digest(key)[:13], 16) / 16**13 * sum(shares)
    for name, share in zip(SPLITS, shares, strict=False):
        place -= share
        if place < 0:
            return name
    return SPLITS[len(shares) - 1]


def _joined(
    groups: list[str], sources: list[tuple[str, str | None, Member | None]], limits: ImageLimits, policy: AddressPolicy
) -> tuple[list[str], int]:
    """Groups with near-duplicates merged, and the number of unreadable images."""
    pictures, places, unread = [], [], 0
    for place, (uri, content_sha256, member) in enumerate(sources):
        if _shared_file(uri):
            continue
        try:
            data = read_labelled_bytes(uri, content_sha256, limits, policy, member)
            pictures.append(thumbnail(decode_image(data, limits)))
            places.append(place)
        except (EverymaskError, OSError):
            unread += 1
    joined = list(groups)
    for place, leader in zip(places, alike(pictures), strict=True):
        joined[place] = groups[places[leader]]
    # Images of one content are together whatever became of their pictures.
    first: dict[str, str] = {}
    for group, found in zip(groups, joined, strict=True):
        first.setdefault(group, found)
    return [first[group] for group in groups], unread


def _shared_file(uri: str) -> str | None:
    """The video or multi-page file that holds the image, or None."""
    path = split_query(uri.partition("#")[0])[0]
    return path if path.lower().endswith(_SHARED_FILES) else None


def _checked_column(store: LabelStore, column: str | None) -> str:
    names = [] if not store.parts() else next(iter(store.batches(batch_size=1))).schema.names
    if column not in names:
        raise ConfigurationError(
            f"--split-by {column}: the label store has no such column, only {', '.join(names)}; split by folder, or "
            "list every image's split in a file for --split-file"
        )
    return str(column)


def read_split_file(path: str) -> dict[str, str]:
    """Splits by image id from a CSV file; InputError if it is unreadable or malformed."""
    try:
        text = Location.at(path).read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the split file {path} cannot be read ({one_line(error)}); check the path") from error
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or rows[0] != _HEADER or any(len(row) != 2 for row in rows if row):
        raise InputError(
            f"the split file {path} is no CSV file with the columns image_id,split; write them on its first line"
        )
    splits = {row[0]: row[1] for row in rows[1:] if row}
    if odd := sorted({split for split in splits.values() if not split.isidentifier()}):
        raise InputError(
            f"the split file {path} names a split {odd[0]!r}; name splits by letters, as train, val and test"
        )
    return splits


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
