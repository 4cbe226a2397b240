"""The user's own pictures, on which a head is shown, and, where people have annotated them, measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.embeddings import StoredEmbeddings
from everymask.classes.exemplars.folder import folder_pictures, picture_files
from everymask.classes.exemplars.manifest import Exemplar
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import classify_masks
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError, InputError
from everymask.evaluation.annotated import Annotated, class_truth, read_annotated_files
from everymask.evaluation.semantic import SemanticFigures, semantic_figures

SHOWN_SCENES = 24
"""Most scenes on the page."""


@dataclass(frozen=True)
class Scenes:
    """Pictures of a folder, and what people say that some of them show.

    Attributes:
        folder: where they are.
        pictures: those that are looked at.
        annotations: file or folder of annotations; None without.
        truth: the annotated ones, by path in the folder; None without annotations.
    """

    folder: str
    pictures: Sequence[Exemplar]
    annotations: Path | None = None
    truth: Annotated | None = None

    @property
    def unseen(self) -> list[Exemplar]:
        """Those to learn from: a head is measured on others."""
        known = self.truth.images if self.truth is not None else {}
        return [picture for picture in self.pictures if picture.file not in known]


def choose_scenes(folder: str, annotations: Path | None, most: int, taxonomy: Taxonomy) -> Scenes:
    """All annotated pictures of a folder, and at most `most` others, or `SHOWN_SCENES` if that is more.

    Raises:
        ConfigurationError: no picture is there, or the annotations have no known format or none of the classes.
        InputError: the annotations cannot be read, or are of no picture in the folder.
    """
    if annotations is None:
        return Scenes(folder, folder_pictures(folder, "--scenes", max(most, SHOWN_SCENES)))
    truth = read_annotated_files(frozenset(picture_files(folder, "--scenes")), folder, annotations)
    for note in truth.notes:
        print(note, file=sys.stderr)
    if not _annotated_classes(truth, taxonomy):
        theirs = ", ".join(sorted({mask.class_name for image in truth.images.values() for mask in image.masks}))
        ours = ", ".join(taxonomy.classes)
        raise ConfigurationError(f"{annotations} names {theirs or 'nothing'}, but none of {ours}; rename its classes")
    pictures = folder_pictures(folder, "--scenes", max(most, SHOWN_SCENES), truth.images.keys())
    return Scenes(folder, pictures, annotations, truth)


def measure_scenes(
    scenes: Scenes, records: Sequence[StoredEmbeddings], head: ClassHead, taxonomy: Taxonomy, masks: MaskConfig
) -> SemanticFigures | None:
    """The head's figures on the annotated scenes; None without annotations.

    Raises:
        InputError: an annotation is for a picture of another size, or the pictures cannot be read.
    """
    if scenes.truth is None or scenes.annotations is None:
        return None
    file_of = {picture.bag_id: picture.file for picture in scenes.pictures}
    found = {file_of[record.image_id]: record.embeddings for record in records if record.image_id in file_of}
    annotated = Annotated({file: image for file, image in scenes.truth.images.items() if file in found}, ())
    known = _annotated_classes(annotated, taxonomy)
    if not known:
        raise InputError(f"no annotated picture of {scenes.folder} that shows a class can be read")
    sizes = {file: embeddings.size_hw for file, embeddings in found.items()}
    measured = Taxonomy(known)
    truth = class_truth(annotated, measured, sizes, scenes.annotations)
    labels = {file: classify_masks(found[file], head, ClassesConfig(masks=masks)) for file in truth}
    return semantic_figures(labels, truth, measured.classes)


def _annotated_classes(truth: Annotated, taxonomy: Taxonomy) -> tuple[tuple[str, str], ...]:
    """(annotated name, class) pairs; annotations may name classes, or the subjects that these gather."""
    named = {mask.class_name for image in truth.images.values() for mask in image.masks}
    pairs = {**taxonomy.class_of, **{name: name for name in taxonomy.classes}}
    return tuple((name, of_class) for name, of_class in pairs.items() if name in named)
