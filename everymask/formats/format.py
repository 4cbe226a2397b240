"""Definition of an export format: its registry entry, its options and its writer."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal, Protocol

from everymask.errors import ConfigurationError
from everymask.formats.class_names import ClassNames
from everymask.formats.spool import Spool, pieces
from everymask.labels.rows import ImageRow
from everymask.records import ImageLabels, Rle

ImagesMode = Literal["link", "copy"]

SCRATCH = ".everymask-shares"
"""Folder of files needed only until the export is finished."""
IMAGE_FOLDER = "images"
"""Most formats' image folder, inside the export."""


class Naming(Enum):
    """By what a format identifies an image's labels."""

    IMAGE_ID = "the image id, as text in a file"
    PATH = "a file named like the image, ending included"
    STEM = "a file named like the image, without its ending"


class Keeps(Enum):
    """What a format may keep of a mask besides its pixels and class."""

    IDS = "ids"
    SCORES = "scores"
    OVERLAPS = "overlaps"
    HOLES = "holes"
    PARTS = "parts"


@dataclass(frozen=True)
class ExportOptions:
    """How a format is written.

    Attributes:
        segmentation: one of the format's `segmentations`; "" if it has none.
        task: one of the format's `tasks`; "" if it has none.
        tolerance_px: how far a polygon may deviate from its mask's outline, in pixels; 0 keeps every pixel edge.
        image_address: template of image addresses for formats that hold them, with `{image_id}` and `{uri}`. Empty: the
            uri of remote images, otherwise the path in Label Studio's local files.
        model_version: the name that the labels' model gets in formats that record it.
    """

    segmentation: str = ""
    task: str = ""
    tolerance_px: float = 0.0
    image_address: str = ""
    model_version: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance_px < float("inf"):
            raise ConfigurationError(f"tolerance must be a number of pixels, at least 0; got {self.tolerance_px}")


@dataclass(frozen=True)
class ExportedImage:
    """One image of an export.

    Attributes:
        number: its place, from 1, among the exported images by `image_id`.
        name: what the export calls it: its id, or the unique name of its copy or link.
        image: its row.
        labels: that row's labels.
        split: such as `train`; "" if the export has no splits.
        picture: its file, upright, for formats that embed images; otherwise None.
    """

    number: int
    name: str
    image: ImageRow
    labels: ImageLabels
    split: str = ""
    picture: bytes | None = None


@dataclass(frozen=True)
class Ended:
    """What a writer leaves for the end of the export.

    Attributes:
        spools: scratch files with pieces of the format's files, by purpose.
        files: files to be renamed at the end, in order, by split.
        images: images written, by split.
        picture_bytes: bytes of pictures written, by split.
    """

    spools: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    picture_bytes: dict[str, int] = field(default_factory=dict)


class Writer(Protocol):
    """Writes a share of an export's images: files of their own, and pieces of files that all shares make together."""

    def add(self, exported: ExportedImage) -> Sequence[Rle]:
        """Write an image; images come in the store's order.

        Returns the image's masks, in order, as readers of the export will get them; the loss is measured on these.

        Raises:
            ConfigurationError: the format cannot hold these labels.
        """
        ...

    def end(self) -> Ended:
        """Finish the share's files."""
        ...


@dataclass(frozen=True)
class Destination:
    """Where an export is written before it is moved into place whole.

    Attributes:
        folder: holds everything that is written.
        main: name of the one file that the format consists of; "" for folder formats.
        names: the classes' names; complete once every image was added.
        images: number of images.
        with_images: whether the images themselves are exported.
        splits: names of the splits; empty without splits.
        share: number of the share that a writer writes.
        numbers: images that the file holds; None for all.
    """

    folder: Path
    main: str
    names: ClassNames
    images: int
    with_images: bool
    splits: tuple[str, ...] = ()
    share: int = 0
    numbers: range | None = None

    @property
    def scratch(self) -> Path:
        """The folder for files that are not part of the export."""
        return self.folder / SCRATCH

    def spool(self, purpose: str) -> Spool:
        """The share's spool for a purpose."""
        return Spool(self.scratch / f"{purpose}-{self.share:06d}.spool")

    def pieces(self, ended: Sequence[Ended], purpose: str) -> Iterator[bytes]:
        """The pieces that all writers spooled for a purpose, in order of the images."""
        return pieces([self.scratch / one.spools[purpose] for one in ended if purpose in one.spools], self.numbers)


def number_files(folder: Path, ended: Sequence[Ended], name: str) -> dict[str, int]:
    """Rename the writers' files with numbers from 0 in each split.

    `ended` is what the writers left, in order; `name` contains `{split}` and `{number}`. Returns the number of files in
    each split.
    """
    counts: dict[str, int] = {}
    for one in ended:
        for split, files in one.files.items():
            for file in files:
                number = counts.get(split, 0)
                (folder / file).rename(folder / name.format(split=split, number=number))
                counts[split] = number + 1
    return counts


def nothing_more(destination: Destination, options: ExportOptions, ended: Sequence[Ended]) -> None:
    """The end of an export whose images all have files of their own."""


def training_script(name: str) -> str:
    """A script of `examples/training`, for a shell: where it is seen from here, else where this package lies."""
    here = Path("examples", "training", name)
    there = Path(__file__).resolve().parents[2] / here
    return shlex.quote(str(there if there.exists() and not here.exists() else here))


@dataclass(frozen=True)
class Format:
    """One entry of the registry.

    Attributes:
        name: as in `--format`.
        summary: what it is and who reads it, one line for `--help` and the documentation.
        suffix: the written file's suffix; "" for a folder.
        naming: what must be unique.
        keeps: what survives, besides pixels and classes.
        exact: whether masks survive to the pixel at tolerance 0, overlaps apart.
        writer: makes the writer of one share of an export.
        close: writes, at the end, what the images share.
        segmentations: the ways to write masks, the default first; empty if there is only one.
        tolerance_px: default tolerance of polygon formats; None for others.
        tasks: the tasks that labels can be written for, the default first; empty if there is only one.
        image_folder: where images go in the export; `{split}` stands for the split.
        needs_images: whether readers need the images inside; if so, they are copied by default.
        embeds_images: whether images go into the format's own files, not a folder.
        draws_masks: whether masks are picture files of their own, which a folder of images would take in.
        val_folder: folder name of the split `val`.
        has_splits: whether it distinguishes training images from others.
        caveat: what happens to masks that it cannot hold unchanged, shown if there are any; "" for none.
        next_line: makes the next command from the output and the options; None for none.
        holds_addresses: whether it tells its readers where each image is, by `ExportOptions.image_address`.
        sidecar_suffix: suffix of a second file beside the first; "" for none.
        refused_name: a regular expression; names in which it is found cannot be written.
    """

    name: str
    summary: str
    suffix: str
    naming: Naming
    keeps: frozenset[Keeps]
    exact: bool
    writer: Callable[[Destination, ExportOptions], Writer]
    close: Callable[[Destination, ExportOptions, Sequence[Ended]], None] = nothing_more
    segmentations: tuple[str, ...] = ()
    tolerance_px: float | None = None
    tasks: tuple[str, ...] = ()
    image_folder: str = IMAGE_FOLDER
    needs_images: bool = False
    embeds_images: bool = False
    draws_masks: bool = False
    val_folder: str = "val"
    has_splits: bool = False
    caveat: str = ""
    next_line: Callable[[str, ExportOptions], str] | None = None
    holds_addresses: bool = False
    sidecar_suffix: str = ""
    refused_name: str = r"\0"

    def image_path(self, name: str, split: str) -> str:
        """An image's path in the export."""
        folder = self.image_folder.format(split=self.split_folder(split)).rstrip("/")
        return f"{folder}/{name}" if folder else name

    def split_folder(self, split: str) -> str:
        return self.val_folder if split == "val" else split

    def images_mode(self, asked: ImagesMode | Literal["none"] | None) -> ImagesMode | None:
        """How images are exported: as requested, else copied if the format's readers need them."""
        if asked is None:
            return "copy" if self.needs_images else None
        return None if asked == "none" else asked

    def options(
        self,
        segmentation: str | None,
        tolerance_px: float | None,
        image_address: str | None,
        model_version: str,
        task: str | None = None,
    ) -> ExportOptions:
        """The options of one export with defaults; ConfigurationError for an option that the format lacks."""
        if segmentation is not None and segmentation not in self.segmentations:
            allowed = ", ".join(self.segmentations) or "none to choose from"
            raise ConfigurationError(f"--segmentation of {self.name}: {allowed}; got {segmentation}")
        if task is not None and task not in self.tasks:
            raise ConfigurationError(f"--task of {self.name}: {', '.join(self.tasks) or 'leave it out'}; got {task}")
        chosen = segmentation or (self.segmentations[0] if self.segmentations else "")
        chosen_task = task or (self.tasks[0] if self.tasks else "")
        if tolerance_px and (problem := self._no_polygons(chosen, chosen_task)):
            raise ConfigurationError(f"--tolerance is for polygons; {problem}")
        if image_address is not None and not self.holds_addresses:
            raise ConfigurationError(f"--image-address is for label-studio; {self.name} holds none, leave it out")
        tolerance = self.tolerance_px or 0.0 if tolerance_px is None else tolerance_px
        return ExportOptions(chosen, chosen_task, tolerance, image_address or "", model_version)

    def _no_polygons(self, segmentation: str, task: str) -> str:
        """Why masks written like this have no outline that could deviate; "" if they have."""
        if self.tolerance_px is None:
            return f"{self.name} has none, leave it out"
        if "polygon" in self.segmentations and segmentation != "polygon":
            return f"{self.name} writes {segmentation}, give --segmentation polygon or leave it out"
        return f"{self.name} writes boxes with --task detect, leave it out" if task == "detect" else ""
