"""Corrected labels as masks of known class: a head learns from them, with or without exemplars.

An exemplar's picture has one class, and which masks show it is unknown. A corrected image may show many classes, and a
person has named the class of each mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from everymask.backbone.embedding import embed_images
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.drawn import describe_drawn
from everymask.classes.embeddings import MaskEmbeddings, StoredEmbeddings, open_embeddings
from everymask.classes.features import FeatureKind
from everymask.classes.segmenter import describe_masks
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError, InputError, ModelOutputError
from everymask.files.addresses import AddressPolicy
from everymask.files.storage import one_line
from everymask.images.decoding import ImageLimits, decode_image
from everymask.images.files import read_labelled_bytes
from everymask.labels.corrections import CorrectedMask, ImageCorrection, read_corrections
from everymask.labels.store import LabelStore
from everymask.masks.rle import rle_areas, rle_ious, shares_inside
from everymask.records import Member, Rle

SAME_MASK_IOU = 0.8
"""A mask that overlaps a proposal at least this much takes its description."""
_OUTSIDE = 0.3
"""A proposal with a smaller share inside the remaining masks is background (our choice)."""

LeftOut = Callable[[str, str], None]
"""Called with image id and reason when some or all of an image's masks are skipped."""


@dataclass(frozen=True)
class NamedMasks:
    """K masks whose class a person has told, by correcting them or by naming pictures that show no class.

    Attributes:
        inputs: (K, D) float32 mask descriptions.
        labels: (K,) int64 in [0, C], C for background.
    """

    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @staticmethod
    def joined(parts: Sequence[NamedMasks]) -> NamedMasks:
        """All masks of one or more parts."""
        return NamedMasks(torch.cat([part.inputs for part in parts]), torch.cat([part.labels for part in parts]))

    def sample(self, most: int, background: int) -> NamedMasks:
        """At most `most` masks of objects and as many of background, drawn with torch's global generator."""
        shuffled = torch.randperm(len(self))
        is_background = self.labels[shuffled] == background
        chosen = torch.cat([shuffled[~is_background][:most], shuffled[is_background][:most]])
        return NamedMasks(self.inputs[chosen], self.labels[chosen])


@dataclass(frozen=True)
class CorrectedImage:
    """An image that a person has finished, and its address."""

    uri: str
    content_sha256: str | None
    correction: ImageCorrection
    member: Member | None = None


def corrected_images(store: LabelStore) -> list[CorrectedImage]:
    """Every corrected image of a store of classes, in the store's order.

    Raises:
        ConfigurationError: nobody has corrected anything, or the masks have no classes.
        InputError: there is no label store, or it is damaged.
    """
    corrections = read_corrections(store)
    images = [
        CorrectedImage(image.uri, image.content_sha256, corrections[image.image_id], image.member)
        for image in store.images()
        if image.image_id in corrections
    ]
    if not images:
        raise ConfigurationError(
            f"{store.uri} holds no corrections; bring some back with `everymask review import`, or leave "
            "--corrections out"
        )
    if any(mask.class_name is None for image in images for mask in image.correction.masks):
        raise ConfigurationError(
            f"{store.uri} holds masks without classes, from which no class is learnt; give a store that was labelled "
            "with --method classes"
        )
    return images


def classes_of(images: Sequence[CorrectedImage]) -> Taxonomy:
    """The classes of the masks that people left, in the order of their ids.

    Raises:
        ConfigurationError: they left none.
    """
    ids = {str(mask.class_name): mask.class_id for image in images for mask in _left(image.correction)}
    if not ids:
        raise ConfigurationError("the corrections leave no mask of any class; correct more images, or add --exemplars")
    return Taxonomy(tuple((name, name) for name in sorted(ids, key=lambda name: (ids[name] or 0, name))))


def correction_class_ids(images: Sequence[CorrectedImage], taxonomy: Taxonomy, every_class: bool) -> dict[str, int]:
    """The class id of every class that people left masks of.

    Args:
        images: corrected images.
        taxonomy: the classes to train; corrections may use its classes and its subjects.
        every_class: whether each class needs a mask, because it has no exemplars.

    Raises:
        ConfigurationError: a class is unknown, or has no mask and needs one.
    """
    ids = {name: class_id for class_id, name in enumerate(taxonomy.classes)}
    known = ids | {subject: ids[name] for subject, name in taxonomy.subjects}
    names = dict.fromkeys(str(mask.class_name) for image in images for mask in _left(image.correction))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigurationError(
            f"the corrections name {', '.join(unknown)}, but the classes to train are "
            f"{', '.join(taxonomy.classes)}; name these classes with --classes, too"
        )
    missing = [name for name, class_id in ids.items() if class_id not in {known[name] for name in names}]
    if every_class and missing:
        raise ConfigurationError(
            f"the corrections leave no mask of {', '.join(missing)}; correct images that show it, or add --exemplars"
        )
    return {name: known[name] for name in names}


def named_masks(
    images: Sequence[CorrectedImage],
    class_ids: Mapping[str, int],
    background: int,
    backbone: PromptableBackbone,
    masks: MaskConfig,
    features: FeatureKind,
    directory: str | None,
    left_out: LeftOut,
    policy: AddressPolicy,
) -> NamedMasks:
    """The masks of corrected images with their classes, and the background in these images.

    A mask that a person left shows its class. Deleted masks are background, and so are proposals outside of all
    remaining masks: a finished image shows nothing else. A proposal that overlaps a mask by at least `SAME_MASK_IOU`
    gives its description; only other masks, and images that `directory` does not hold, need pixels.

    Args:
        images: corrected images.
        class_ids: the id of every class that people left masks of.
        background: C, the id of background.
        backbone: describes masks.
        masks: how they are proposed and described.
        features: what the head reads.
        directory: mask embeddings of some or all of these images, or None.
        left_out: called for images that cannot be read.
        policy: restricts the addresses that are opened.

    Raises:
        ConfigurationError: `directory` holds no mask embeddings, or those of another backbone or without crops.
        InputError: a file of it is damaged.
    """
    waiting = {image.correction.image_id: image for image in images}
    parts: list[tuple[torch.Tensor, list[int]]] = []

    def learn(image: CorrectedImage, proposals: MaskEmbeddings | None) -> None:
        embedding = None
        if proposals is None:
            embedding = _embed(image, backbone, policy)
            proposals = describe_masks(backbone, embedding, ClassesConfig(masks=masks))
        rles, labels = _named(image.correction, proposals.rles, class_ids, background)
        ious = rle_ious(rles, proposals.rles)
        best = ious.argmax(axis=1) if ious.size else np.zeros(len(rles), dtype=np.int64)
        same = ious[np.arange(len(rles)), best] >= SAME_MASK_IOU if ious.size else np.zeros(len(rles), dtype=np.bool_)
        if same.any():
            own = np.flatnonzero(same)
            parts.append((proposals.features[best[own]].inputs(features), [labels[i] for i in own]))
        drawn = np.flatnonzero(~same)
        if len(drawn):
            embedding = embedding or _embed(image, backbone, policy)
            described = describe_drawn(backbone, embedding, [rles[i] for i in drawn], masks)
            parts.append((described.inputs(features), [labels[i] for i in drawn]))

    for record in _stored(directory, waiting, backbone, features) if directory else ():
        image = waiting[record.image_id]
        if record.content_sha256 == (image.correction.content_sha256 or record.content_sha256):
            del waiting[record.image_id]
            _try(partial(learn, image, record.embeddings), image, left_out)
    for image in waiting.values():
        _try(partial(learn, image, None), image, left_out)
    if not parts:
        raise ConfigurationError("no mask of the corrected images could be described; make their images readable")
    return NamedMasks(torch.cat([inputs for inputs, _ in parts]), torch.tensor([i for _, ids in parts for i in ids]))


def _left(correction: ImageCorrection) -> Iterator[CorrectedMask]:
    return (mask for mask in correction.masks if mask.action not in ("deleted", "kept"))


def _named(
    correction: ImageCorrection, proposals: Sequence[Rle], class_ids: Mapping[str, int], background: int
) -> tuple[list[Rle], list[int]]:
    """Masks of an image that a person finished, with their class ids."""
    left = list(_left(correction))
    rles = [mask.rle for mask in left]
    labels = [class_ids[str(mask.class_name)] for mask in left]
    beside = [mask.rle for mask in correction.masks if mask.action == "deleted"]
    if proposals:
        beside += [
            rle for rle, share in zip(proposals, shares_inside(proposals, rles), strict=True) if share < _OUTSIDE
        ]
    visible = rle_areas([*rles, *beside]) > 0
    pairs = zip([*rles, *beside], labels + [background] * len(beside), visible, strict=True)
    kept = [(rle, label) for rle, label, seen in pairs if seen]
    return [rle for rle, _ in kept], [label for _, label in kept]


def _stored(
    directory: str, wanted: Mapping[str, CorrectedImage], backbone: PromptableBackbone, features: FeatureKind
) -> Iterator[StoredEmbeddings]:
    """Stored mask embeddings of the wanted images, shard by shard."""
    shards, made_with = open_embeddings(directory)
    if "crop" in features and made_with.describer != "crop":
        raise ConfigurationError(
            f"{directory} holds masks described without crops, which the head reads; leave --embeddings out, or make "
            "them again with --classes.masks.describer crop"
        )
    for shard in shards:
        if not any(image_id in wanted for image_id in shard.image_ids):
            continue
        for record in shard.read():
            found = record.embeddings.backbone, record.embeddings.weights_sha256
            if found != (backbone.name, backbone.weights_sha256):
                raise ConfigurationError(
                    f"{directory} holds mask embeddings of {found[0]} with weights {found[1][:12]}, training is for "
                    f"{backbone.name} with weights {backbone.weights_sha256[:12]}; choose that --model, or leave "
                    "--embeddings out"
                )
            if record.image_id in wanted:
                yield record


def _embed(image: CorrectedImage, backbone: PromptableBackbone, policy: AddressPolicy) -> ImageEmbedding:
    """The image, embedded. Raises InputError, ModelOutputError, OSError."""
    limits = ImageLimits()
    corrected = image.correction.content_sha256 or image.content_sha256
    data = read_labelled_bytes(image.uri, corrected, limits, policy, image.member)
    pixels = decode_image(data, limits)
    if pixels.shape[:2] != image.correction.size_hw:
        raise InputError("the image has another size than its labels")
    (embedding,) = embed_images(backbone, [pixels], keep_picture=True)
    if not isinstance(embedding, ImageEmbedding):
        raise embedding
    return embedding


def _try(learn: Callable[[], None], image: CorrectedImage, left_out: LeftOut) -> None:
    """Learn from one image; an unreadable one does not end the training."""
    try:
        learn()
    except (InputError, ModelOutputError, OSError) as error:
        left_out(image.correction.image_id, one_line(error))
