"""A folder of exemplars and the one manifest that says where each came from, whatever the source.

    FOLDER/
      manifest.jsonl    one exemplar a line: `Exemplar`
      rejected.jsonl    where candidates that were not kept are from, and why; they are not tried again
      cat/…jpg          pictures by subject

Lines are only ever appended, so a killed run resumes; a torn last line is ignored and its picture made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from everymask.classes.exemplars.filters import DuplicateFilter, PictureFilter
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError, InputError, OutputError
from everymask.files.json_text import parse_json
from everymask.images.decoding import IMAGE_SUFFIXES, decode_image, image_format
from everymask.redaction import redact, redact_all

MANIFEST = "manifest.jsonl"
REJECTED = "rejected.jsonl"

_ENDINGS = {"JPEG": ".jpg", "JPEG2000": ".jp2"}
"""File endings by format, where they are not the format's own name."""

Source = Literal["diffusion", "crawl", "folder", "boxes", "concepts"]


@dataclass(frozen=True)
class Origin:
    """Where a candidate picture is from.

    Attributes:
        subject: what it should show.
        source: how it was got.
        prompt: the text prompt or the search query; empty for a folder and for boxes.
        seed: the generator's seed; None unless generated.
        model: the model that generated it, or empty.
        license: as the source states it, or empty.
        creator: as the source states it, or empty.
        url: the picture's address, or the original file's path with the box that was cut out; stored without secrets.
        landing_url: the page that shows it, for attribution.
    """

    subject: str
    source: Source
    prompt: str = ""
    seed: int | None = None
    model: str = ""
    license: str = ""
    creator: str = ""
    url: str = ""
    landing_url: str = ""

    @property
    def key(self) -> str:
        """Equal for candidates that are the same picture of the same source."""
        return json.dumps([self.subject, self.source, self.prompt, self.seed, self.model, redact(self.url)])


@dataclass(frozen=True)
class Exemplar:
    """One line of the manifest.

    Attributes:
        file: path in the folder, with forward slashes.
        class_name: the class of its subject when it was made.
        sha256: digest of the file.
        perceptual_hash: 16 hexadecimal digits; similar for pictures that look alike.
        origin: where it is from.
    """

    file: str
    class_name: str
    sha256: str
    perceptual_hash: str
    origin: Origin

    @property
    def bag_id(self) -> str:
        """Names its mask embeddings; a changed file has another id."""
        return f"{self.file}#{self.sha256[:12]}"

    def to_fields(self) -> dict[str, object]:
        fields = asdict(self)
        origin: dict[str, object] = fields.pop("origin")
        return fields | origin

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Exemplar:
        """Inverse of `to_fields`. Raises KeyError or TypeError for anything else."""
        own = {name: fields[name] for name in ("file", "class_name", "sha256", "perceptual_hash")}
        if not all(isinstance(value, str) for value in own.values()):
            raise TypeError(f"{', '.join(own)} must be text")
        return cls(**own, origin=Origin(**{name: value for name, value in fields.items() if name not in own}))


class ExemplarFolder:
    """Filters candidates and remembers which it kept and which it rejected.

    Only one process may write a folder at a time.

    Args:
        directory: made if missing.
        taxonomy: the class of each subject.
        picture_filter: checks single pictures.
        duplicate_filter: compares pictures of one subject.

    Raises:
        OutputError: the directory cannot be written.
    """

    def __init__(
        self,
        directory: str | Path,
        taxonomy: Taxonomy,
        picture_filter: PictureFilter | None = None,
        duplicate_filter: DuplicateFilter | None = None,
    ) -> None:
        self.directory = Path(directory)
        self._class_of = taxonomy.class_of
        self._picture_filter = picture_filter or PictureFilter()
        self._duplicates = duplicate_filter or DuplicateFilter()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for name in (MANIFEST, REJECTED):
                _end_last_line(self.directory / name)
        except OSError as error:
            raise OutputError(f"exemplars cannot be written to {self.directory}: {error}") from error
        kept = _read_manifest(self.directory / MANIFEST)
        self._known = {item.origin.key for item in kept}
        self._known |= _read_rejected(self.directory / REJECTED)
        # A file that somebody deleted is known, but no exemplar: a crawl fills its place with another.
        self._counts = Counter(item.origin.subject for item in kept if (self.directory / item.file).is_file())
        for item in kept:
            self._duplicates.remember(item.origin.subject, item.perceptual_hash)

    def count(self, subject: str) -> int:
        """Exemplars of a subject so far."""
        return self._counts[subject]

    def knows(self, origin: Origin) -> bool:
        """Whether this candidate was kept or rejected before."""
        return origin.key in self._known

    def add(self, data: bytes, origin: Origin) -> str | None:
        """Keep an encoded picture, or return why not.

        Raises:
            OutputError: the folder cannot be written.
        """
        if self.knows(origin):
            return "known already"
        perceptual_hash = ""
        try:
            image = decode_image(data)
            reason = self._picture_filter.problem(image)
            if reason is None:
                perceptual_hash = self._duplicates.hash(image)
                reason = self._duplicates.problem(origin.subject, perceptual_hash)
        except InputError as error:
            reason = str(error)
        if reason is not None:
            self.reject(origin, reason)
            return reason
        sha256 = hashlib.sha256(data).hexdigest()
        file = f"{origin.subject}/{sha256[:16]}{_ending(data)}"
        _check_inside(self.directory, file)
        try:
            _write_whole(self.directory / file, data)
        except OSError as error:
            raise OutputError(f"exemplars cannot be written to {self.directory}: {error}") from error
        line = Exemplar(file, self._class_of[origin.subject], sha256, perceptual_hash, origin)
        self._append(MANIFEST, line.to_fields(), origin)
        self._duplicates.remember(origin.subject, perceptual_hash)
        self._counts[origin.subject] += 1
        return None

    def reject(self, origin: Origin, reason: str) -> None:
        """Remember a rejected candidate, so that it is not fetched again.

        Raises:
            OutputError: the folder cannot be written.
        """
        self._append(REJECTED, asdict(origin) | {"reason": reason}, origin)

    def _append(self, name: str, line: dict[str, object], origin: Origin) -> None:
        try:
            # Half a surrogate pair, as a hostile answer may hold, has no UTF-8; its escape is good JSON.
            with (self.directory / name).open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(json.dumps(redact_all(line), ensure_ascii=False) + "\n")
        except OSError as error:
            raise OutputError(f"exemplars cannot be written to {self.directory}: {error}") from error
        self._known.add(origin.key)


def load_exemplars(directory: str | Path) -> list[Exemplar]:
    """Every exemplar of a folder, by its manifest or, without one, by a directory per class.

    Raises:
        ConfigurationError: there is no exemplar, or a line of the manifest is no exemplar of this folder.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder of exemplars at {folder}; make one with `everymask exemplars`")
    if (folder / MANIFEST).is_file():
        found = [item for item in _read_manifest(folder / MANIFEST) if (folder / item.file).is_file()]
    else:
        found = [
            Exemplar(
                f"{subject}/{path.name}",
                subject,
                hashlib.sha256(path.read_bytes()).hexdigest(),
                "",
                Origin(subject, "folder", url=str(path)),
            )
            for subject, path in walk_class_folders(folder)
        ]
    if not found:
        raise ConfigurationError(f"{folder} holds no exemplar; give it a directory of pictures per class")
    return found


def walk_class_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    """(class, file) of every picture in a directory per class, in a fixed order."""
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for path in sorted(inner.iterdir()):
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
                yield inner.name, path


def _read_manifest(path: Path) -> list[Exemplar]:
    exemplars = []
    for number, fields in enumerate(_read_lines(path), start=1):
        try:
            exemplar = Exemplar.from_fields(fields)
            _check_inside(path.parent, exemplar.file)
            exemplars.append(exemplar)
        except (KeyError, TypeError, ConfigurationError) as error:
            raise ConfigurationError(f"line {number} of {path} is no exemplar ({error}); mend or delete it") from error
    return exemplars


def _check_inside(folder: Path, file: str) -> None:
    """Refuse a path that leads out of `folder`, even by a symbolic link: manifests come from strangers.

    Raises:
        ConfigurationError: it does.
    """
    try:
        inside = (folder / file).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # a zero byte, a loop of links, a name that is too long
        inside = False
    if not inside or "\\" in file:
        raise ConfigurationError(f"the file {file!r} lies outside its folder of exemplars")


def _read_rejected(path: Path) -> set[str]:
    """The keys of the candidates that were rejected."""
    keys = set()
    for number, fields in enumerate(_read_lines(path), start=1):
        fields.pop("reason", None)
        try:
            keys.add(Origin(**fields).key)
        except TypeError as error:
            raise ConfigurationError(f"line {number} of {path} is no candidate ({error}); mend or delete it") from error
    return keys


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """JSON objects, one a line; skips a torn last line, left by a kill."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    for number, line in enumerate(lines[:-1], start=1):
        try:
            fields = parse_json(line)
        except ValueError as error:
            raise ConfigurationError(f"line {number} of {path} is no JSON ({error}); mend or delete it") from error
        if not isinstance(fields, dict):
            raise ConfigurationError(f"line {number} of {path} is no JSON object; mend or delete it")
        yield fields


def _end_last_line(path: Path) -> None:
    """Cut off a torn last line, so that the next line starts cleanly."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _ending(data: bytes) -> str:
    kind = image_format(data)
    return _ENDINGS.get(kind, f".{kind.lower()}")


def _write_whole(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.write_bytes(data)
    draft.replace(path)
