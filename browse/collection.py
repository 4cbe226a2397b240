"""A label store for the page: images found by queries, viewed and corrected."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from browse.index import Index
from browse.layers import NO_PART, Corrected, as_left, lost_images
from browse.query import Query, fulfils
from browse.view import View
from everymask.errors import EverymaskError, InputError
from everymask.formats.class_names import ClassNames
from everymask.labels.correction import ImageCorrection
from everymask.labels.correction_history import CorrectionHistory, undo
from everymask.labels.correction_log import CorrectionConflictError, CorrectionLog, compact
from everymask.labels.corrections import corrected, is_stale
from everymask.labels.lookup import images_at
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from everymask.review.steps import Step, entry_of

logger = logging.getLogger(__name__)

_FILES_BEFORE_COMPACTING = 200


@dataclass(frozen=True)
class Wish:
    """A person's wish for one image.

    Attributes:
        seen: ids of the entries that were shown, on which the new one is based.
        steps: in order.
        signature: `View.signature` of the labels that were shown; None if the wisher does not say.
        where: apply the steps to the masks that meet these conditions; None if they name their masks.
    """

    image_id: str
    seen: tuple[str, ...]
    steps: tuple[Step, ...]
    where: Query | None = None
    signature: str | None = None


@dataclass(frozen=True)
class Looked:
    """One image with everything known about it.

    Attributes:
        row: as the model made it; without masks if the row is lost.
        heads: log entries that no other is based on, the one that counts last.
        entries: all entries, oldest first.
        view: the view that was asked.
        position: the image's place in it.
    """

    row: ImageRow
    heads: tuple[ImageCorrection, ...]
    entries: tuple[ImageCorrection, ...]
    view: View
    position: int

    @property
    def labels(self) -> ImageLabels | None:
        """The labels as people left them; None if there is an error in place of them."""
        entry = {self.row.image_id: self.heads[-1]} if self.heads else {}
        return corrected(self.row, entry).labels

    @property
    def is_stale(self) -> bool:
        """Whether the correction is of another file, and so not shown."""
        return bool(self.heads) and is_stale(self.heads[-1], self.row.content_sha256)


class LabelledAnewError(EverymaskError):
    """An image has other labels now than those that were shown. `image_id` names it."""

    def __init__(self, image_id: str) -> None:
        self.image_id = image_id
        super().__init__(f"{image_id} was labelled anew since it was shown; look at what stands there now")


class UnknownImageError(InputError):
    """The store has no such image."""


class Collection:
    """One store. Thread-safe.

    Args:
        folder: where its index is kept.
        splits: split by image id.

    Attributes:
        reading: parts read and parts to read; None when idle.
        problems: a sentence for each unreadable part, by name.
        trouble: why the last look at the store failed, or None.
    """

    def __init__(self, store: LabelStore, folder: Path, splits: Mapping[str, str] | None = None) -> None:
        self.store = store
        self._index = Index(store, folder)
        self._splits = dict(splits or {})
        self._log = CorrectionLog(store)
        self._writers: dict[str, CorrectionLog] = {}
        self._lock = threading.RLock()
        self._view = View((), {})
        self._shown: dict[str, int] = {}
        self._epoch = -1
        self._segments = 0
        self.reading: tuple[int, int] | None = None
        self.problems: dict[str, str] = {}
        self.trouble: str | None = None

    @property
    def view(self) -> View:
        return self._view

    @property
    def epoch(self) -> int:
        """Rises when positions of earlier views become invalid."""
        return self._epoch

    # ---- bringing up to date ----------------------------------------------------------------------------------------

    def renew(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Read what is new in the store and the log.

        Raises:
            InputError: there is no label store, or the log is damaged.
            ConfigurationError: the log is of a newer format.
            OSError: the store cannot be listed, or the cache cannot be written.
        """

        def read(done: int, total: int) -> None:
            self.reading = (done, total)
            progress(done, total)
            if len(self._index.segments) != self._segments:
                self._look_again()

        try:
            self._index.renew(read)
        finally:
            self.reading = None
            self.problems = self._index.problems
        with self._lock:
            self._log.refresh()
            self._look_again()
            self._show_corrections()

    def _look_again(self) -> None:
        """Make a new view if the index has changed."""
        with self._lock:
            segments = self._index.segments
            if (self._index.epoch, len(segments)) == (self._epoch, self._segments):
                return
            view = View(segments, self._splits)
            known = view.positions(self._log.history.entries)
            lost = [entry for name, entry in self._log.history.current().items() if name not in known]
            self._view = View([*segments, lost_images(lost)], self._splits) if lost else view
            self._epoch, self._segments = self._index.epoch, len(segments)
            self._shown = {}
            self._show_corrections()

    def _show_corrections(self) -> None:
        """Apply new log entries to the view."""
        history = self._log.history
        new = [name for name, entries in history.entries.items() if self._shown.get(name) != len(entries)]
        if new:
            self._view.correct(self._as_left(history, self._view.positions(new)))
            self._shown |= {name: len(history.entries[name]) for name in new}

    def _as_left(self, history: CorrectionHistory, positions: Mapping[str, int]) -> list[Corrected]:
        """Corrected images; rows are read only if some masks are unjudged."""
        found = []
        for name, position in positions.items():
            *others, entry = history.heads(name)
            place = self._view.place(position)
            digest = place.segment.table["content_sha256"][place.row].as_py()
            row = None if entry.finished else self._row(self._view, position)
            found.append(as_left(position, entry, bool(others), row, digest))
        return found

    # ---- looking ----------------------------------------------------------------------------------------------------

    def look(self, image_id: str) -> Looked:
        """One image.

        Raises:
            UnknownImageError: the store has no such image.
            InputError: its row cannot be read.
        """
        with self._lock:
            view = self._view
            position = view.positions([image_id]).get(image_id)
            entries = tuple(self._log.history.entries.get(image_id, ()))
            heads = tuple(self._log.history.heads(image_id))
        if position is None:
            raise UnknownImageError(f"the store has no image {image_id!r}")
        row = self._row(view, position)
        if row is None:
            last = heads[-1]
            row = ImageRow(image_id, last.uri or "", None, "its row is lost", last.content_sha256, member=last.member)
        return Looked(row, heads, entries, view, position)

    def _row(self, view: View, position: int) -> ImageRow | None:
        """An image's row as the model made it; None if it is lost."""
        place = view.place(position)
        part, row = (int(place.segment.table[name][place.row].as_py()) for name in ("part", "row"))
        if part == NO_PART:
            return None
        name = place.segment.parts[part]
        try:
            (found,) = images_at(self.store, self.store.part(name), [row])
        except IndexError:
            found = None
        if found is None or not place.segment.has(place.row, found):
            raise InputError(f"{name} has changed since it was read; the page catches up in a moment")
        return found

    def classes(self) -> dict[str, int]:
        """Ids of the store's classes by name: those of its run, and any others among its masks."""
        try:
            listed = ClassNames.of_store(self.store).dense()
        except EverymaskError as error:
            logger.warning("%s", error)
            listed = []
        named = dict(enumerate(listed)) | self._view.class_names
        return {name: class_id for class_id, name in sorted(named.items())} if self._view.class_names else {}

    # ---- correcting -------------------------------------------------------------------------------------------------

    def correct(self, wishes: Sequence[Wish], annotator: str) -> list[Looked | EverymaskError]:
        """Keep a person's steps on some images, durably.

        Each wish is of another image. Returns each image's new state, or why nothing was kept: somebody else's entry
        came in between (`CorrectionConflictError`), or the image or a step does not fit.

        Raises:
            OutputError: the store is not writable; nothing was kept.
            InputError, ConfigurationError: the log cannot be read.
        """
        with self._lock:
            while True:
                self._log.refresh()
                self._show_corrections()
                made = [self._entry(wish, annotator) for wish in wishes]
                entries = [entry for entry in made if isinstance(entry, ImageCorrection)]
                try:
                    if entries:
                        self._writer(annotator).append(entries)
                except CorrectionConflictError:  # of another process, just now
                    continue
                self._show_corrections()
                return [
                    one if isinstance(one, EverymaskError) else self.look(wish.image_id)
                    for wish, one in zip(wishes, made, strict=True)
                ]

    def _entry(self, wish: Wish, annotator: str) -> ImageCorrection | EverymaskError | None:
        """The entry for a wish; None if it changes nothing."""
        try:
            looked = self.look(wish.image_id)
            if {head.entry_id for head in looked.heads} - set(wish.seen):
                return CorrectionConflictError(wish.image_id, looked.heads)
            if wish.signature not in (None, looked.view.signature(looked.position)):
                return LabelledAnewError(wish.image_id)
            steps = [self._chosen(step, wish.where, looked) for step in wish.steps]
            return entry_of(looked.row, looked.heads, steps, self.classes(), annotator, _now())
        except EverymaskError as error:
            return error

    def _chosen(self, step: Step, where: Query | None, looked: Looked) -> Step:
        """A step restricted to the masks that meet the conditions."""
        if where is None:
            return step
        masks = looked.labels.masks if looked.labels is not None else ()
        return replace(step, mask_ids=tuple(str(mask.mask_id) for mask in masks if fulfils(mask, where)))

    def undo(self, image_id: str, seen: Sequence[str], annotator: str) -> Looked:
        """Take back the last step on an image, if it was this person's.

        Raises:
            CorrectionConflictError: somebody else's entry came in between.
            InputError: this person has nothing to take back.
            OutputError: the store is not writable.
        """
        with self._lock:
            self._log.refresh()
            self._show_corrections()
            looked = self.look(image_id)
            if {head.entry_id for head in looked.heads} - set(seen):
                raise CorrectionConflictError(image_id, looked.heads)
            if looked.heads and looked.heads[-1].annotator != annotator:
                whose = looked.heads[-1].annotator or "somebody else"
                raise InputError(f"the last step on {image_id} is that of {whose}; undo takes back your own")
            self._writer(annotator).append([undo(self._log.history, looked.row, annotator, _now())])
            self._show_corrections()
            return self.look(image_id)

    def _writer(self, annotator: str) -> CorrectionLog:
        if annotator not in self._writers:
            self._writers[annotator] = self._log.for_annotator(annotator)
        return self._writers[annotator]

    def compact(self) -> None:
        """Merge the log's files if there are many."""
        files = [file for file in self.store.corrections.entries() if file.name.startswith("log-")]
        if len(files) >= _FILES_BEFORE_COMPACTING:
            compact(self.store)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
