"""Composites: objects cut out of exemplars by a head, pasted into pictures of the user's own that show no class.

Exemplars show one object that fills its picture; scenes do not. A head that learns from exemplars alone has never seen
a small object, a partly hidden one, or the surroundings in the user's pictures. In a composite all of that is known:
which masks are which object, and that the rest is background. (Copy-paste as training data is due to Dwibedi et al.
2017, arXiv:1708.01642; cutting the objects out with the head itself is ours.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from everymask.classes.embeddings import MaskEmbeddings, StoredEmbeddings
from everymask.classes.features import FeatureKind
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import object_evidence
from everymask.classes.training.bags import UNNAMED
from everymask.classes.training.corrections import NamedMasks
from everymask.classes.training.localisation import object_masks
from everymask.masks.rle import decode_mask, encode_masks, rle_ious, shares_inside
from everymask.records import Rle

_MOST_OBJECTS = 4
"""Most objects in a composite: several cost no more to embed than one."""
_SIDES = (0.12, 0.62)
"""The longer side of a pasted object, in shares of the scene's shorter side."""
_BEYOND = 0.25
"""Share of its sides by which a pasted object may reach out of the picture."""
_LIGHT = (0.75, 1.25)
"""Factors of its brightness."""
_BLUR_PX = 1.5
"""Standard deviation, at most, of the blur of an object: pictures of a collection are less sharp than exemplars."""
_MOST_OF_FRAME = 0.3
"""Masks that cover a larger share of an exemplar's frame are not its object."""
_SAME_IOU = 0.6
"""Masks with at least this IoU with an object's visible part are the object."""
_OUTSIDE = 0.1
"""Masks with a smaller share in pasted objects are background."""
_LIKE_A_CLASS = 0.3
"""If a mask's top class probability times its predicted IoU reaches this, its picture may show a class."""


Read = Callable[[str], NDArray[np.uint8]]
"""The (H, W, 3) uint8 RGB picture with an image id."""


@dataclass(frozen=True)
class FoundObject:
    """A whole object in an exemplar.

    Attributes:
        image_id: the exemplar.
        mask: where the object is, not empty.
        class_id: its class.
    """

    image_id: str
    mask: Rle
    class_id: int


@dataclass(frozen=True)
class CompositePlan:
    """The plan of a picture.

    Attributes:
        scene: image id of the picture that objects are pasted into.
        objects: one or more, in the order of pasting; later ones may hide earlier ones.
        seed: of places, sizes, light and blur.
    """

    scene: str
    objects: tuple[FoundObject, ...]
    seed: int

    @property
    def image_id(self) -> str:
        """Equal for plans that give the same picture."""
        parts = [self.scene, *(f"{item.image_id} {item.mask['counts']} {item.class_id}" for item in self.objects)]
        return hashlib.sha256("\n".join([*parts, str(self.seed)]).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class PastedObjects:
    """The visible objects in a composite.

    Attributes:
        class_ids: the class of each of K objects.
        masks: the visible part of each, none empty.
    """

    class_ids: tuple[int, ...]
    masks: tuple[Rle, ...]


def find_objects(
    records: Iterable[StoredEmbeddings], class_ids: Mapping[str, int], head: ClassHead
) -> list[FoundObject]:
    """The object of each exemplar in which a head finds one.

    Args:
        records: mask embeddings of exemplars.
        class_ids: what each shows, by image id.
        head: trained on them.
    """
    found = []
    for record in records:
        class_id, masks = class_ids[record.image_id], record.embeddings
        index = _object_of(masks, head, class_id)
        if index is not None:
            found.append(FoundObject(record.image_id, masks.rles[index], class_id))
    return found


def _object_of(masks: MaskEmbeddings, head: ClassHead, class_id: int) -> int | None:
    """The mask that is the whole object of an exemplar, as far as a head can tell."""
    if not len(masks):
        return None
    probability = head.probabilities(masks.features)[:, class_id]
    occupancy = torch.from_numpy(masks.occupancy).float() / 255
    is_object, _ = object_masks(probability, occupancy)
    is_object &= (probability >= head.spec.score_thresh) & (torch.from_numpy(masks.frame_share) < _MOST_OF_FRAME)
    if not bool(is_object.any()):
        return None
    rank = probability * torch.from_numpy(masks.predicted_iou).clamp(0, 1) * occupancy.mean(dim=1) ** 0.25
    return int(rank.masked_fill(~is_object, -1).argmax())


def shows_no_class(masks: MaskEmbeddings, head: ClassHead) -> bool:
    """Whether a picture shows none of a head's classes, as far as the head can tell."""
    if not len(masks):
        return False
    evidence = object_evidence(head.probabilities(masks.features), torch.from_numpy(masks.predicted_iou))
    return float(evidence.max()) < _LIKE_A_CLASS


def plan_composites(
    scenes: Sequence[str], objects: Sequence[FoundObject], count: int, seed: int
) -> list[CompositePlan]:
    """Composites of random scenes and objects, of every class alike; none without scenes or objects."""
    if not scenes or not objects:
        return []
    of_class = [[item for item in objects if item.class_id == one] for one in {item.class_id for item in objects}]
    generator = np.random.default_rng(seed)
    plans = []
    for _ in range(count):
        classes = generator.integers(len(of_class), size=generator.integers(1, _MOST_OBJECTS + 1))
        chosen = tuple(of_class[one][generator.integers(len(of_class[one]))] for one in classes)
        scene = scenes[int(generator.integers(len(scenes)))]
        plans.append(CompositePlan(scene, chosen, int(generator.integers(2**31))))
    return plans


def compose(plan: CompositePlan, read: Read) -> tuple[NDArray[np.uint8], PastedObjects]:
    """The planned (H, W, 3) uint8 RGB picture, and the objects in it; the same plan gives the same ones."""
    generator = np.random.default_rng(plan.seed)
    picture = Image.fromarray(read(plan.scene))
    seen: list[tuple[int, NDArray[np.bool_]]] = []
    for item in plan.objects:
        pixels, alpha = _altered(*_cut_out(read(item.image_id), item.mask), min(picture.size), generator)
        width, height = alpha.size
        left = round(generator.uniform(-_BEYOND * width, picture.width - (1 - _BEYOND) * width))
        top = round(generator.uniform(-_BEYOND * height, picture.height - (1 - _BEYOND) * height))
        picture.paste(pixels, (left, top), alpha)
        place = Image.new("L", picture.size)
        place.paste(alpha, (left, top))
        covered = np.asarray(place) > 127
        seen = [(class_id, mask & ~covered) for class_id, mask in seen] + [(item.class_id, covered)]
    visible = [(class_id, mask) for class_id, mask in seen if mask.any()]
    masks = encode_masks(np.stack([mask for _, mask in visible])) if visible else []
    return np.asarray(picture), PastedObjects(tuple(class_id for class_id, _ in visible), tuple(masks))


def _cut_out(picture: NDArray[np.uint8], mask: Rle) -> tuple[Image.Image, Image.Image]:
    """The pixels in a mask's box, and the mask there, 255 inside."""
    inside = decode_mask(mask)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Image.fromarray(picture[box]), Image.fromarray(inside[box].astype(np.uint8) * 255)


def _altered(
    pixels: Image.Image, alpha: Image.Image, scene_side: int, generator: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """A cut-out in another size, light and sharpness, perhaps mirrored."""
    scale = generator.uniform(*_SIDES) * scene_side / max(pixels.size)
    size = max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale))
    pixels, alpha = pixels.resize(size, Image.Resampling.LANCZOS), alpha.resize(size, Image.Resampling.BILINEAR)
    if generator.random() < 0.5:
        pixels, alpha = (part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for part in (pixels, alpha))
    blurred = pixels.filter(ImageFilter.GaussianBlur(generator.uniform(0, _BLUR_PX)))
    lit = np.asarray(blurred).astype(np.float32) * generator.uniform(*_LIGHT)
    # The edge is softened, or it would be sharper than any that a picture has.
    return Image.fromarray(lit.clip(0, 255).astype(np.uint8)), alpha.filter(ImageFilter.GaussianBlur(1))


def name_masks(proposed: Sequence[Rle], pasted: PastedObjects, background: int) -> NDArray[np.int64]:
    """(M,) what each proposed mask of a composite is: a class id, `background`, or `UNNAMED` for parts and mixtures."""
    if not pasted.masks:
        return np.full(len(proposed), background)
    ious = rle_ious(proposed, pasted.masks)
    named = np.where(shares_inside(proposed, pasted.masks) < _OUTSIDE, background, UNNAMED)
    return np.where(ious.max(axis=1) >= _SAME_IOU, np.array(pasted.class_ids)[ious.argmax(axis=1)], named)


def composite_masks(
    composites: Iterable[tuple[PastedObjects, MaskEmbeddings]], features: FeatureKind, background: int
) -> NamedMasks | None:
    """The masks of composites whose class is known; None if there are none.

    Args:
        composites: the pasted objects, and the embeddings of the masks proposed there.
        features: what the head reads.
        background: C, the id of background.
    """
    parts = []
    for pasted, masks in composites:
        labels = torch.from_numpy(name_masks(masks.rles, pasted, background))
        known = labels != UNNAMED
        if bool(known.any()):
            parts.append(NamedMasks(masks.features.inputs(features)[known], labels[known]))
    return NamedMasks.joined(parts) if parts else None
