"""Sorts listed images into new and known ones; each image once, whatever their number."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import ImageRef, batched
from data_jobs.labelling.manifest_files import list_digest
from data_jobs.labelling.manifests import Manifest
from everymask.errors import ConfigurationError
from everymask.files.json_text import parse_json
from everymask.files.storage import canonical_uri
from everymask.labels.erasure import erased_digests, id_digest
from everymask.labels.store import LabelStore
from everymask.records import Member
from everymask.redaction import redact

_ROWS_PER_LOOK_UP = 4096


class Listing:
    """A listing in progress. An image that is listed twice counts once; erased ones do not count.

    Args:
        store: the label store.
        images: as they are listed.
        known: images that need no labelling, each with its `listing_digest`.

    Attributes:
        listed: images so far, known ones included.
        found: new images so far.
        ended: whether all is listed.
        changed: known images of which the listing says something else now.
    """

    def __init__(self, store: LabelStore, images: Iterable[ImageRef], known: IdSet) -> None:
        if erased := erased_digests(store):
            images = (image for image in images if id_digest(image.image_id) not in erased)
        self._images = images
        self._known = known
        self._seen = IdSet()
        self.found = 0
        self.ended = False
        self.changed = Manifest.at(store.changed)

    @property
    def listed(self) -> int:
        """See the class."""
        return len(self._seen)

    def new(self) -> Iterator[ImageRef]:
        """The unknown images, as they are listed.

        Raises:
            ConfigurationError: two images have one id.
            OutputError: the store is not writable.
        """
        for batch in batched(self._images, _ROWS_PER_LOOK_UP):
            first = _first_time(batch, self._seen)
            done, before = self._known.find([image.image_id for image in first])
            now = np.array([listing_digest(image.file_size, image.file_version) for image in first], dtype=np.uint64)
            other = done & (now != before) & (now != 0) & (before != 0)
            self.changed = self.changed.with_more(itertools.compress(first, other))
            self.found += int((~done).sum())
            yield from itertools.compress(first, ~done)
        self.ended = True


def listing_digest(file_size: int | None, file_version: str | None) -> int:
    """64 bits of a file's listed size and version; 0 without a version."""
    if file_version is None:
        return 0
    return int.from_bytes(hashlib.blake2b(f"{file_size} {file_version}".encode(), digest_size=8).digest()) or 1


def _first_time(images: list[ImageRef], seen: IdSet) -> list[ImageRef]:
    """The images that were not seen before. Marks all as seen."""
    unique: dict[str, ImageRef] = {}
    for image in images:
        if _address(unique.setdefault(image.image_id, image)) != _address(image):
            raise _same_id(image)
    first = list(unique.values())
    # A digest of the address tells a repeated line from two images that share an id.
    addresses = np.array([hash(_address(image)) for image in first], dtype=np.int64).view(np.uint64)
    before, known_addresses = seen.find(list(unique))
    for image in itertools.compress(first, before & (known_addresses != addresses)):
        raise _same_id(image)
    new = list(itertools.compress(first, ~before))
    seen.add_all([image.image_id for image in new], addresses[~before])
    return new


def _address(image: ImageRef) -> tuple[str, Member | None]:
    return image.uri, image.member


def _same_id(image: ImageRef) -> ConfigurationError:
    return ConfigurationError(
        f"two images of the input have the id {image.image_id!r}, one of them {image.uri}; ids must be unique"
    )


@dataclass(frozen=True)
class Listed:
    """The input that a store's shards were cut from, kept as `shards/listing.json` once all is listed.

    Attributes:
        input: path or address, without its secrets.
        limit: of the images, None for all.
        sha256: of the file that names them; None if the input is no such file.
    """

    input: str
    limit: int | None
    sha256: str | None

    @classmethod
    def of(cls, location: str, limit: int | None) -> Listed:
        """The record of an input as it is now. Raises as `list_digest`."""
        return cls(redact(canonical_uri(location)), limit, list_digest(location))

    def is_kept_in(self, store: LabelStore) -> bool:
        """Whether exactly this was listed to the end before, so that listing it again would find nothing new."""
        if self.sha256 is None or store.listing_file.kind() != "file":
            return False
        try:
            return bool(parse_json(store.listing_file.read()) == asdict(self))
        except ValueError:
            return False

    def keep_in(self, store: LabelStore) -> None:
        """Write the record. Raises OutputError: the store is not writable."""
        store.listing_file.write((json.dumps(asdict(self)) + "\n").encode())
