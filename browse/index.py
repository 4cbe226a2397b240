"""The index of a label store: built once, cached in a folder, updated when parts come, change or go."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
from filelock import FileLock

from browse.segments import OF_IMAGES, Segment, joined, of_part, read_segment, write_segment
from everymask.errors import ConfigurationError, InputError
from everymask.files.durable import make_folder, write_file
from everymask.files.location import Location
from everymask.labels.facts import read_facts
from everymask.labels.store import LabelStore

Progress = Callable[[int, int], None]
"""Called with the numbers of parts read and to read."""

_READERS = 4
_PARTS_AT_A_TIME = 16
_IMAGES_PER_SEGMENT = 200_000
_MOST_SEGMENTS = 12
_VERSION = 1


@dataclass(frozen=True)
class _Kept:
    """A segment, its file, and each part's state when it was read."""

    segment: Segment
    file: str
    states: Mapping[str, str]


class Index:
    """Segments of all images of a store. Thread-safe; processes may share the folder.

    Args:
        folder: where the index is kept; made if missing.

    Attributes:
        epoch: rises when existing images move or disappear.
        problems: a sentence for each unreadable part, by name.
    """

    def __init__(self, store: LabelStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._kept: tuple[_Kept, ...] = ()
        self._renewing = threading.Lock()
        self._bad: dict[str, str] = {}
        self.epoch = 0
        self.problems: dict[str, str] = {}

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(kept.segment for kept in self._kept)

    def renew(self, progress: Progress = lambda done, total: None) -> bool:
        """Read new parts and forget missing ones; returns whether anything changed.

        Raises:
            InputError: there is no label store.
            OSError: the store cannot be listed, or the folder cannot be written.
        """
        with self._renewing:
            make_folder(str(self._folder))
            with FileLock(self._folder / "lock"):
                return self._renew(progress)

    def _renew(self, progress: Progress) -> bool:
        parts = self._store.parts()
        if not parts and not self._store.exists():
            raise InputError(f"{self._store.uri} is not a label store: it has neither run.json nor labels/*.parquet")
        states = _states(self._store, parts)
        before = self._kept or self._read()
        kept = [left for one in before if (left := self._still_there(one, states)) is not None]
        moved = any(one is not old for one, old in zip(kept, before, strict=False)) or len(kept) < len(before)
        if moved or not self._kept:
            self._publish(kept, moved=moved)
        known = {name for one in kept for name in one.states}
        self._bad = {name: state for name, state in self._bad.items() if states.get(name) == state}
        self.problems = {name: problem for name, problem in self.problems.items() if name in self._bad}
        unknown = states.keys() - known - self._bad.keys()
        new = [part for part in parts if self._store.name_of(part) in unknown]
        for segments in self._segments_of(new, states, progress):
            kept.append(self._keep(segments, {name: states[name] for one in segments for name in one.parts}))
            self._publish(kept, moved=False)
        if len(kept) > _MOST_SEGMENTS:
            kept = self._put_together(kept)
            self._publish(kept, moved=True)
        if moved or new or kept != list(before):
            self._write(kept)
        return moved or bool(new)

    def _publish(self, kept: Sequence[_Kept], moved: bool) -> None:
        self._kept = tuple(kept)
        self.epoch += moved

    def _still_there(self, kept: _Kept, states: Mapping[str, str]) -> _Kept | None:
        """The segment without missing or changed parts; itself if there are none, None if no part is left."""
        gone = {name for name, state in kept.states.items() if states.get(name) != state}
        if not gone:
            return kept
        left = kept.states.keys() - gone
        return self._keep([kept.segment.without(gone)], {name: states[name] for name in left}) if left else None

    def _segments_of(
        self, parts: Sequence[Location], states: Mapping[str, str], progress: Progress
    ) -> Iterator[list[Segment]]:
        """Segments of single parts, in batches that one segment should hold."""
        waiting: list[Segment] = []
        done = 0
        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(parts), _PARTS_AT_A_TIME):
                some = parts[start : start + _PARTS_AT_A_TIME]
                names = [self._store.name_of(part) for part in some]
                for name, found in zip(names, pool.map(_read_part, some, names), strict=True):
                    done += 1
                    progress(done, len(parts))
                    if isinstance(found, Segment):
                        waiting.append(found)
                    else:
                        self._bad[name] = states[name]
                        self.problems = {**self.problems, name: str(found)}
                    if sum(map(len, waiting)) >= _IMAGES_PER_SEGMENT:
                        yield waiting
                        waiting = []
        if waiting:
            yield waiting

    def _put_together(self, kept: Sequence[_Kept]) -> list[_Kept]:
        """Large segments unchanged, the small ones merged into one."""
        large = [one for one in kept if len(one.segment) >= _IMAGES_PER_SEGMENT]
        small = [one for one in kept if len(one.segment) < _IMAGES_PER_SEGMENT]
        states = {name: state for one in small for name, state in one.states.items()}
        return [*large, self._keep([one.segment for one in small], states)] if small else large

    def _keep(self, segments: Sequence[Segment], states: Mapping[str, str]) -> _Kept:
        """Write segments as one, and use the mapped file, whose pages the kernel may drop, instead of the memory."""
        name = f"segment-{uuid.uuid4().hex}.arrow"
        write_segment(joined(segments), self._folder / name)
        return _Kept(read_segment(self._folder / name), name, states)

    def _read(self) -> tuple[_Kept, ...]:
        """The segments kept by an earlier process; none if a file is missing or of another version."""
        try:
            content = json.loads((self._folder / "index.json").read_text())
            if content["version"] != _VERSION:
                return ()
            return tuple(
                _Kept(read_segment(self._folder / one["file"]), one["file"], one["parts"])
                for one in content["segments"]
            )
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            return ()

    def _write(self, kept: Sequence[_Kept]) -> None:
        segments = [{"file": one.file, "parts": dict(one.states)} for one in kept]
        content = {"version": _VERSION, "store": self._store.uri, "segments": segments}
        write_file(str(self._folder / "index.json"), json.dumps(content).encode())
        named = {one.file for one in kept}
        for file in self._folder.glob("segment-*.arrow"):
            if file.name not in named:
                with suppress(OSError):
                    file.unlink()


def _read_part(part: Location, name: str) -> Segment | Exception:
    try:
        return of_part(read_facts(part, OF_IMAGES), name)
    except (InputError, ConfigurationError, OSError, pa.ArrowException) as error:
        return error


def _states(store: LabelStore, parts: Sequence[Location]) -> dict[str, str]:
    """Each part's size and time from the listing, to notice a replaced file."""
    folders = {part.path.rpartition("/")[0] for part in parts}
    listed = [info for folder in folders for info in store.root.filesystem.get_file_info(pafs.FileSelector(folder))]
    states = {info.path: f"{info.size}:{info.mtime_ns}" for info in listed}
    return {store.name_of(part): states[part.path] for part in parts if part.path in states}
