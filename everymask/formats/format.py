"""What an export format is: its entry in the registry, and the writer it makes for one export."""

from __future__ import annotations

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
"""What is needed only until an export is finished."""
IMAGE_FOLDER = "images"
"""Where most formats want the images, below the export."""


class Naming(Enum):
    """What a format names an image's labels by."""

    IMAGE_ID = "the image id, as text in a file"
    PATH = "a file named like the image, ending included"
    STEM = "a file named like the image, without its ending"


class Keeps(Enum):
    """What a format may keep of a mask, besides its pixels and its class."""

    IDS = "ids"
    SCORES = "scores"
    OVERLAPS = "overlaps"
    HOLES = "holes"
    PARTS = "parts"


@dataclass(frozen=True)
class ExportOptions:
    """How a format is written.

    Attributes:
        segmentation: one of the format's `segmentations`, an empty string where it has none.
        task: one of the format's `tasks`, an empty string where it has none.
        tolerance_px: how far a polygon may leave the outline of its mask, in pixels; 0 keeps every pixel edge.
        image_address: template of the images' addresses for formats that hold one; `{image_id}` and `{uri}` are
            filled in. Empty: the uri of remote images, the place in Label Studio's local files for the others.
        model_version: what made the labels, for formats that say so.
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
    """One image on its way into an export.

    Attributes:
        number: its place among the exported images in order of `image_id`, from 1.
        name: what the export calls it: its id, or the unique name of its copy or link.
        image: its row.
        labels: that row's labels.
        split: what it is for, such as `train`; empty where the export has no splits.
        picture: its file, upright, for formats that embed images; None where they are left out.
    """

    number: int
    name: str
    image: ImageRow
    labels: ImageLabels
    split: str = ""
    picture: bytes | None = None


@dataclass(frozen=True)
class Ended:
    """What one writer leaves for the end of the export.

    Attributes:
        spools: scratch files with pieces of the format's files, by what they are for.
        files: files whose final names are given in the end, in order, by split.
        images: images written, by split.
        picture_bytes: bytes of pictures written, by split.
    """

    spools: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    picture_bytes: dict[str, int] = field(default_factory=dict)


class Writer(Protocol):
    """Writes a share of the images of one export: files of their own, and pieces of those that they are in together."""

    def add(self, exported: ExportedImage) -> Sequence[Rle]:
        """Write an image; images come in the order of the store.

        Returns:
            every mask of the image, in order, as readers will find it: what is lost is measured by these.

        Raises:
            ConfigurationError: the format cannot hold these labels.
        """
        ...

    def end(self) -> Ended:
        """Finish the share's files."""
        ...


@dataclass(frozen=True)
class Destination:
    """Where one export is written, before it is moved into place whole.

    Attributes:
        folder: holds everything that is written.
        main: name of the file in it that the format consists of; empty for formats that are a folder.
        names: the classes' names; complete once every image was added.
        images: how many images there are in it.
        with_images: whether the images themselves are put into the export.
        splits: the splits there are; empty where the export has none.
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
        """A folder that is no part of the export."""
        return self.folder / SCRATCH

    def spool(self, purpose: str) -> Spool:
        """A spool of the share."""
        return Spool(self.scratch / f"{purpose}-{self.share:06d}.spool")

    def pieces(self, ended: Sequence[Ended], purpose: str) -> Iterator[bytes]:
        """What all writers have put into their spools for a purpose, in order of the images."""
        return pieces([self.scratch / one.spools[purpose] for one in ended if purpose in one.spools], self.numbers)


def number_files(folder: Path, ended: Sequence[Ended], name: str) -> dict[str, int]:
    """Give the files of all writers their final names, with numbers from 0 in each split.

    Args:
        folder: where they are.
        ended: what the writers left, in order.
        name: with `{split}` and `{number}`.

    Returns:
        How many files each split has.
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
    """The end of an export in which every image has files of its own and nothing else is needed."""


@dataclass(frozen=True)
class Format:
    """One entry of the registry.

    Attributes:
        name: as in `--format`.
        summary: what it is and who reads it, one line for `--help` and the documentation.
        suffix: the written file's suffix; empty for a folder.
        naming: what must be unique.
        keeps: what survives, besides pixels and classes.
        exact: whether masks survive to the pixel, overlaps apart, with a tolerance of 0.
        writer: makes the writer of one share of an export.
        close: writes what the images have in common, after all of them.
        segmentations: how masks may be written, the default first; empty where there is one way.
        tolerance_px: the default tolerance of formats that hold polygons; None for the others.
        tasks: what the labels may be written for, the default first; empty where there is one.
        image_folder: where images go below the export; `{split}` stands for the split.
        needs_images: whether readers want the images inside, so that they are copied unless that is forbidden.
        embeds_images: whether images are written into the format's own files in place of a folder.
        val_folder: what the split `val` is called in paths.
        has_splits: whether it can tell training images from others.
        caveat: what becomes of masks that it cannot hold as they are, said where there are some; empty for none.
        next_line: makes the line to type next of the output and the options; None for none.
        sidecar_suffix: suffix of a second file beside the first; empty for none.
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
    val_folder: str = "val"
    has_splits: bool = False
    caveat: str = ""
    next_line: Callable[[str, ExportOptions], str] | None = None
    sidecar_suffix: str = ""
    refused_name: str = r"\0"

    def image_path(self, name: str, split: str) -> str:
        """Where an image goes below the export."""
        folder = self.image_folder.format(split=self.split_folder(split)).rstrip("/")
        return f"{folder}/{name}" if folder else name

    def split_folder(self, split: str) -> str:
        """What a split is called in paths."""
        return self.val_folder if split == "val" else split

    def images_mode(self, asked: ImagesMode | Literal["none"] | None) -> ImagesMode | None:
        """How the images are put into the export: as asked, else copied where the format's readers need them."""
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
        """The options of one export, defaults filled in.

        Raises:
            ConfigurationError: the format does not have such an option.
        """
        if segmentation is not None and segmentation not in self.segmentations:
            allowed = ", ".join(self.segmentations) or "none to choose from"
            raise ConfigurationError(f"--segmentation of {self.name}: {allowed}; got {segmentation}")
        if task is not None and task not in self.tasks:
            raise ConfigurationError(f"--task of {self.name}: {', '.join(self.tasks) or 'leave it out'}; got {task}")
        if tolerance_px and self.tolerance_px is None:
            raise ConfigurationError(f"--tolerance is for polygons; {self.name} has none, leave it out")
        chosen = segmentation or (self.segmentations[0] if self.segmentations else "")
        tolerance = self.tolerance_px or 0.0 if tolerance_px is None else tolerance_px
        default_task = self.tasks[0] if self.tasks else ""
        return ExportOptions(chosen, task or default_task, tolerance, image_address or "", model_version)
