"""What the measurements of U-SAM share: exemplars and annotated images with their mask embeddings, and composites."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from data_jobs.exemplars.composites import planned_composites, write_composites
from everymask.backbone.embedding import embed_images
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.classes.config import ClassesConfig
from everymask.classes.embeddings import StoredEmbeddings, load_embeddings, open_embeddings, write_embeddings
from everymask.classes.exemplars.folder import folder_pictures
from everymask.classes.exemplars.manifest import Exemplar, load_exemplars
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import describe_masks
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.composites import composite_masks
from everymask.classes.training.corrections import NamedMasks
from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth import ClassTruth, read_coco_instances, read_voc
from everymask.evaluation.ground_truth.voc import VOC_CLASSES
from everymask.images.decoding import decode_image

Half = Literal["first", "second"]
"""Every second image by name, beginning with the first or with the second."""
SHARD = 25
"""Images in a file of a store of mask embeddings."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What to measure."""

    exemplars: Path
    """Folder of exemplars, a directory per COCO class."""
    ground_truth: Path
    """Folder with instances.json and images/, or in VOC's layout."""
    split: str = "val"
    """Which list in VOC's ImageSets/Segmentation."""
    half: Half | None = None
    """Only half of the annotated images, where exemplars are cut from the other."""
    work: Path = Path("runs/benchmark-classes")
    """Where mask embeddings are kept."""
    model: str = "nano"
    """Backbone."""
    checkpoint: str | None = None
    """Other weights for it."""
    seeds: int = 5
    """Trainings, each with its own split, initial weights and order."""
    per_class: int | None = None
    """Use at most this many exemplars of each class."""
    threads: int = 2
    """torch threads."""
    scenes: Path | None = None
    """Folder of pictures; exemplars' objects are pasted into them for training."""
    composites: int = 200
    """Number of composites, with scenes; the first seed's head cuts the objects out, and all seeds learn from them."""


def with_crops(config: ClassesConfig) -> ClassesConfig:
    """Describe masks by their crops too, for heads that read crops."""
    return replace(config, masks=replace(config.masks, describer="crop"))


def embedded(
    backbone: PromptableBackbone, images: Iterable[tuple[str, Path]], store: Path, config: ClassesConfig
) -> dict[str, StoredEmbeddings]:
    """Mask embeddings of images by id, made where the store has none.

    Raises:
        ConfigurationError: the store was made with other settings of masks.
    """
    images = list(images)
    known: dict[str, StoredEmbeddings] = {}
    if any(store.glob("*.parquet")):
        if open_embeddings(store)[1] != config.masks:
            raise ConfigurationError(f"{store} holds masks made with other settings; give another --work")
        known = {record.image_id: record for record in load_embeddings(store)}
    missing = [(image_id, path) for image_id, path in images if image_id not in known]
    for first in range(0, len(missing), SHARD):
        records = [_describe(backbone, image_id, path, config) for image_id, path in missing[first : first + SHARD]]
        write_embeddings(store, records, config.masks)
        known |= {record.image_id: record for record in records}
        print(f"embedded {min(first + SHARD, len(missing))} of {len(missing)} images into {store}", flush=True)
    return {image_id: known[image_id] for image_id, _ in images}


def _describe(backbone: PromptableBackbone, image_id: str, path: Path, config: ClassesConfig) -> StoredEmbeddings:
    (embedding,) = embed_images(backbone, [decode_image(path.read_bytes())], keep_picture=True)
    assert isinstance(embedding, ImageEmbedding)
    return StoredEmbeddings(image_id, str(path), "", describe_masks(backbone, embedding, config))


@dataclass(frozen=True)
class Material:
    """The data that all measurements share."""

    backbone: PromptableBackbone
    exemplars: list[Exemplar]
    bags: list[StoredEmbeddings]
    images: dict[str, StoredEmbeddings]


VOC_NAMES = {"airplane": "aeroplane", "motorcycle": "motorbike", "couch": "sofa", "tv": "tvmonitor"}
"""COCO's classes with another name in VOC."""


def taxonomy_of(exemplars: Sequence[Exemplar]) -> Taxonomy:
    """The classes of some exemplars."""
    return Taxonomy(tuple(dict.fromkeys((item.origin.subject, item.class_name) for item in exemplars)))


def is_voc(folder: Path) -> bool:
    """Whether a folder of ground truth is in VOC's layout."""
    return (folder / "SegmentationClass").is_dir()


def truth_name(folder: Path, split: str) -> str:
    """Names the mask embeddings of a ground truth's images."""
    return "-".join([*folder.resolve().parts[-2:], *([split] if is_voc(folder) else [])])


def read_truth(
    folder: Path, split: str, taxonomy: Taxonomy, half: Half | None = None
) -> tuple[dict[str, ClassTruth], tuple[str, ...], Path]:
    """Ground truth by file name, its classes, and the folder of its images."""
    if not is_voc(folder):
        return half_of(read_coco_instances(folder, taxonomy), half), taxonomy.classes, folder / "images"
    subjects = [(VOC_NAMES.get(subject, subject), name) for subject, name in taxonomy.subjects]
    known = Taxonomy(tuple((subject, name) for subject, name in subjects if subject in VOC_CLASSES))
    return half_of(read_voc(folder, known, split), half), known.classes, folder / "JPEGImages"


def half_of(truth: dict[str, ClassTruth], half: Half | None) -> dict[str, ClassTruth]:
    """One half of the images; all where `half` is None."""
    if half is None:
        return truth
    return {name: truth[name] for name in sorted(truth)[("first", "second").index(half) :: 2]}


def prepare(config: Measured, classes: ClassesConfig) -> Material:
    """Load the embeddings of exemplars and images, or make them."""
    backbone = load_backbone(config.model, config.checkpoint, "cpu")
    store = config.work / f"{backbone.name}-{backbone.weights_sha256[:12]}"
    exemplars: list[Exemplar] = []
    taken: dict[str, int] = {}
    for item in load_exemplars(config.exemplars):
        taken[item.origin.subject] = taken.get(item.origin.subject, 0) + 1
        if config.per_class is None or taken[item.origin.subject] <= config.per_class:
            exemplars.append(item)
    bags = embedded(
        backbone, ((item.bag_id, config.exemplars / item.file) for item in exemplars), store / "bags", classes
    )
    truth, _, folder = read_truth(config.ground_truth, config.split, taxonomy_of(exemplars), config.half)
    truth_store = store / truth_name(config.ground_truth, config.split)
    images = embedded(backbone, ((name, folder / name) for name in sorted(truth)), truth_store, classes)
    return Material(backbone, exemplars, list(bags.values()), images)


def pasted(
    material: Material, taxonomy: Taxonomy, head: ClassHead, config: Measured, classes: ClassesConfig
) -> NamedMasks | None:
    """Training masks from objects pasted into the scenes."""
    assert config.scenes is not None
    store = config.work / f"{material.backbone.name}-{material.backbone.weights_sha256[:12]}"
    scenes = folder_pictures(config.scenes, "--scenes", config.composites)
    files = {item.bag_id: config.scenes / item.file for item in scenes}
    described = embedded(material.backbone, files.items(), store / truth_name(config.scenes, ""), classes)
    ids = {subject: taxonomy.classes.index(name) for subject, name in taxonomy.subjects}
    class_ids = {item.bag_id: ids[item.origin.subject] for item in material.exemplars}
    plans = planned_composites(list(described.values()), material.bags, class_ids, head, config.composites, seed=0)
    files |= {item.bag_id: config.exemplars / item.file for item in material.exemplars}
    made = {item.bag_id: (item, objects) for item, objects in write_composites(plans, files, f"{store}/composites")}
    pictures = ((bag_id, store / "composites" / item.file) for bag_id, (item, _) in made.items())
    masks = embedded(material.backbone, pictures, store / "composites", classes)
    return composite_masks(
        ((made[bag_id][1], record.embeddings) for bag_id, record in masks.items()),
        head.spec.features,
        len(taxonomy.classes),
    )
