"""Names of an export's images, planned before anything is written so that none collide."""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from everymask.errors import ConfigurationError
from everymask.formats.format import Naming
from everymask.images.decoding import IMAGE_SUFFIXES

_SHOWN = 3
_SHOWN_CHARACTERS = 60
_MAX_NAME_BYTES = 200
_MAX_PATH_BYTES = 1000  # an object store's key has at most 1,024
_ODD = re.compile(r"[^\w.()+=@-]+")


@dataclass(frozen=True)
class NamePlan:
    """Names of the images of one export.

    Attributes:
        numbers: image ids in sorted order, each with its place from 1.
        unique: names by image id if images are exported under names of their own; None if they are called by their ids.
    """

    numbers: dict[str, int]
    unique: dict[str, str] | None

    def name(self, image_id: str) -> str:
        """The export's name of an image."""
        return image_id if self.unique is None else self.unique[image_id]


def plan_names(image_ids: Sequence[str], naming: Naming, refused: str, unique: bool) -> NamePlan:
    """Choose every image's name.

    Args:
        image_ids: of the images to export, in any order.
        naming: by what the format identifies labels.
        refused: a regular expression of what the format cannot write in a name.
        unique: give every image a unique plain name, as for `--images`.

    Raises:
        ConfigurationError: two images would share a file, or a name cannot be written; nothing was written yet.
    """
    ordered = sorted(image_ids)
    numbers = {image_id: number for number, image_id in enumerate(ordered, start=1)}
    if len(numbers) != len(ordered):
        twice = next(first for first, second in itertools.pairwise(ordered) if first == second)
        raise ConfigurationError(
            f"the store has two rows of {shown(twice)}; run the labelling command again to settle them"
        )
    if unique:
        return NamePlan(numbers, _unique_names(ordered))
    if naming is not Naming.IMAGE_ID:
        _check_paths(ordered)
    _check_characters(ordered, naming, refused)
    if naming is not Naming.IMAGE_ID:
        _check_collisions(ordered, naming)
    return NamePlan(numbers, None)


def relative_path(image_id: str) -> str:
    """An image id as a path inside an export's folder: never absolute, never above it."""
    parts = [part for part in image_id.replace("\\", "/").replace("://", "/").split("/") if part not in ("", ".")]
    return "/".join("_" if part == ".." else part for part in parts)


def stem_path(name: str) -> str:
    """`relative_path` without its ending."""
    return str(PurePosixPath(relative_path(name)).with_suffix(""))


def shown(image_id: str) -> str:
    """An image id for a sentence, with unprintable characters escaped."""
    return image_id if image_id.isprintable() else ascii(image_id)


def _check_paths(image_ids: Sequence[str]) -> None:
    for image_id in image_ids:
        path = relative_path(image_id).encode("utf-8", "surrogatepass")
        longest = max(map(len, path.split(b"/")))
        if not path or len(path) > _MAX_PATH_BYTES or longest > _MAX_NAME_BYTES:
            problem = "no file" if not path else f"a file whose path of {len(path):,} bytes is too long or too deep"
            raise ConfigurationError(
                f"the image id {shown(image_id[:_SHOWN_CHARACTERS])!r} would name {problem}; rename the image, or use "
                "--images copy, which gives every image a plain name, or choose coco"
            )


def _check_characters(image_ids: Sequence[str], naming: Naming, refused: str) -> None:
    pattern = re.compile(refused)
    for image_id in image_ids:
        found = pattern.search(stem_path(image_id) if naming is Naming.STEM else image_id)
        if found:
            raise ConfigurationError(
                f"the name of {shown(image_id)} holds {found[0]!a} where this format cannot write it; rename the "
                "image, or use --images copy, which gives every image a plain name"
            )


def _check_collisions(image_ids: Sequence[str], naming: Naming) -> None:
    path_of = relative_path if naming is Naming.PATH else stem_path
    # Paths take ten times the memory of their hashes, so only those whose hash comes twice are made again.
    hashes = np.fromiter((hash(_folded(path_of(image_id))) for image_id in image_ids), np.int64, len(image_ids))
    values, counts = np.unique(hashes, return_counts=True)
    alike: dict[str, list[str]] = {}
    for place in np.flatnonzero(np.isin(hashes, values[counts > 1])).tolist():
        alike.setdefault(_folded(path_of(image_ids[place])), []).append(image_ids[place])
    groups = {path: ids for path, ids in alike.items() if len(ids) > 1}
    if groups:
        examples = "; ".join(" and ".join(map(_spelled, ids)) for ids in list(groups.values())[:_SHOWN])
        more = f"; and {len(groups) - _SHOWN:,} more groups" if len(groups) > _SHOWN else ""
        raise ConfigurationError(
            f"this format names labels by {naming.value}, so these collide: {examples}{more}. Nothing was written; "
            "use --images link or --images copy, which gives every image a name of its own, or choose coco"
        )


def _folded(path: str) -> str:
    """A key that is equal for names which some file system treats as one: Windows and macOS ignore case, macOS also the
    difference between composed and decomposed spelling."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _spelled(image_id: str) -> str:
    """Like `shown`, but escapes decomposed names, which look like their composed twins."""
    composed = unicodedata.is_normalized("NFC", image_id)
    return shown(image_id) if composed else ascii(image_id)


def _unique_names(ordered: Sequence[str]) -> dict[str, str]:
    """Plain file names without folders, whose stems differ even if case is ignored."""
    # Hashes take less memory than names; where two are equal by chance, one name gets a digest.
    taken: set[int] = set()
    names = {}
    for image_id in ordered:
        name = _plain(image_id)
        stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
        if suffix.lower() not in IMAGE_SUFFIXES:  # inside a shard; trainers look for endings, and then at the content
            stem, suffix = name, ".jpg"
        digest = hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()
        shortened = stem
        while len((shortened + suffix).encode()) > _MAX_NAME_BYTES:
            shortened = shortened[: len(shortened) * 3 // 4]
        if shortened != stem:
            shortened = f"{shortened}-{digest[:8]}"
        length = 8
        candidate = shortened
        while hash(_folded(candidate)) in taken:
            candidate = f"{shortened}-{digest[:length]}"
            length += 8
        taken.add(hash(_folded(candidate)))
        names[image_id] = image_id if candidate + suffix == image_id else candidate + suffix  # one string, not two
    return names


def _plain(image_id: str) -> str:
    """A path as one file name: composed letters and digits of any script; everything else becomes `_`."""
    composed = unicodedata.normalize("NFC", relative_path(image_id).replace("/", "_"))
    return _ODD.sub("_", composed).lstrip(".") or "image"
