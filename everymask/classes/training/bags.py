"""Bags of mask descriptions with the class of their picture: the training data of a head (section 3.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from difflib import get_close_matches

import torch

from everymask.classes.embeddings import OCCUPANCY_SIDE, StoredEmbeddings
from everymask.classes.features import FeatureKind
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError

UNNAMED = -1
"""The label of masks that may be anything in a picture of their class."""


@dataclass(frozen=True)
class Bags:
    """B bags of one or more masks, N masks in all.

    Attributes:
        inputs: (N, D) float32 mask descriptions, bag after bag.
        frame_share: (N,) float32, share of the picture's outermost pixels in each mask.
        occupancy: (N, G) uint8, how much of each box of a grid over its picture a mask covers; 255 is all of it.
        labels: (N,) int64, each mask's class if known: its picture's class, C for background, or `UNNAMED`.
        sizes: (B,) int64, masks in each bag, at least 1.
        class_ids: (B,) int64, the class of each picture.
        image_ids: B names.
    """

    inputs: torch.Tensor
    frame_share: torch.Tensor
    occupancy: torch.Tensor
    labels: torch.Tensor
    sizes: torch.Tensor
    class_ids: torch.Tensor
    image_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.sizes) == len(self.class_ids) == len(self.image_ids):
            raise ValueError("sizes, class_ids and image_ids must have one length")
        masks = {len(self.inputs), len(self.frame_share), len(self.occupancy), len(self.labels), int(self.sizes.sum())}
        if len(masks) > 1 or bool((self.sizes < 1).any()):
            raise ValueError("sizes must be at least 1 and sum to the number of masks")

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def mask_class_ids(self) -> torch.Tensor:
        """(N,) int64, the class of the picture each mask is from."""
        return self.class_ids.repeat_interleave(self.sizes)

    def __getitem__(self, index: torch.Tensor) -> Bags:
        """The bags at (K,) int64 `index`, in that order."""
        ranges = self.ranges
        masks = torch.cat([ranges[i] for i in index.tolist()]) if len(index) else torch.zeros(0, dtype=torch.int64)
        return Bags(
            self.inputs[masks],
            self.frame_share[masks],
            self.occupancy[masks],
            self.labels[masks],
            self.sizes[index],
            self.class_ids[index],
            tuple(self.image_ids[i] for i in index.tolist()),
        )

    @property
    def ranges(self) -> tuple[torch.Tensor, ...]:
        """For every bag the (m,) int64 indices of its masks."""
        return torch.split(torch.arange(len(self.inputs)), self.sizes.tolist())

    @property
    def area(self) -> torch.Tensor:
        """(N,) float32, share of its picture that each mask covers, [0, 1]."""
        return self.occupancy.float().mean(dim=1) / 255

    def of_area(self, least: float) -> Bags:
        """The same bags without masks that cover less of their picture than `least`; the largest of a bag stays."""
        area = self.area
        kept = area >= least
        for masks in self.ranges:
            kept[masks[area[masks].argmax()]] = True
        return self._masks(kept.nonzero().flatten())

    def sample(self, most: int) -> Bags:
        """The same bags with at most `most` masks each, drawn with torch's global generator."""
        bag = torch.arange(len(self)).repeat_interleave(self.sizes)
        # Masks in random order, then stably by bag: the first ones of each bag are a random draw of it.
        shuffled = torch.randperm(len(self.inputs))
        shuffled = shuffled[torch.sort(bag[shuffled], stable=True).indices]
        starts = torch.cumsum(self.sizes, dim=0) - self.sizes
        rank = torch.arange(len(shuffled)) - starts[bag]
        return self._masks(shuffled[rank < most])

    def _masks(self, kept: torch.Tensor) -> Bags:
        """The same bags with only the masks at (K,) int64 `kept`, in ascending order of bags."""
        bag = torch.arange(len(self)).repeat_interleave(self.sizes)[kept]
        return Bags(
            self.inputs[kept],
            self.frame_share[kept],
            self.occupancy[kept],
            self.labels[kept],
            torch.bincount(bag, minlength=len(self)),
            self.class_ids,
            self.image_ids,
        )


def no_bags(input_dim: int) -> Bags:
    """No bags, for training on corrections alone."""
    nothing = torch.zeros(0, dtype=torch.int64)
    grid = torch.zeros(0, OCCUPANCY_SIDE**2, dtype=torch.uint8)
    return Bags(torch.zeros(0, input_dim), torch.zeros(0), grid, nothing, nothing, nothing, ())


def make_bags(
    records: Sequence[StoredEmbeddings], subject_of: Mapping[str, str], taxonomy: Taxonomy, features: FeatureKind
) -> Bags:
    """Bags of the pictures whose subject is in the taxonomy; pictures without a mask are left out.

    Args:
        records: mask embeddings of exemplars.
        subject_of: what each picture shows, by image_id; pictures that are not named are left out.
        taxonomy: the classes to train.
        features: what the head reads.

    Raises:
        ConfigurationError: a class has no exemplar, or its exemplars give no mask.
    """
    class_of = taxonomy.class_of
    chosen = [record for record in records if subject_of.get(record.image_id) in class_of]
    usable = [record for record in chosen if len(record.embeddings)]
    check_pictured(taxonomy, {subject_of[record.image_id] for record in chosen})
    with_mask = {subject_of[record.image_id] for record in usable}
    for subject, name in taxonomy.subjects:
        if subject not in with_mask:
            raise ConfigurationError(
                f"the exemplars of {_place(subject, name)} give no mask; use pictures with a clear object"
            )
    ids = {name: class_id for class_id, name in enumerate(taxonomy.classes)}
    return Bags(
        torch.cat([item.embeddings.features.inputs(features) for item in usable]),
        torch.cat([torch.from_numpy(item.embeddings.frame_share) for item in usable]),
        torch.cat([torch.from_numpy(item.embeddings.occupancy) for item in usable]),
        torch.full((sum(len(item.embeddings) for item in usable),), UNNAMED),
        torch.tensor([len(item.embeddings) for item in usable]),
        torch.tensor([ids[class_of[subject_of[item.image_id]]] for item in usable]),
        tuple(item.image_id for item in usable),
    )


def check_pictured(taxonomy: Taxonomy, pictured: Set[str], known: Set[str] = frozenset()) -> None:
    """Refuse classes without exemplars.

    Args:
        taxonomy: the classes to train.
        pictured: subjects that have a picture.
        known: subjects of all pictures, for a hint.

    Raises:
        ConfigurationError: a class has no exemplar.
    """
    for subject, name in taxonomy.subjects:
        if subject not in pictured:
            alike = get_close_matches(subject, sorted(known), n=1)
            hint = f"did you mean {alike[0]}?" if alike else "make some with `everymask exemplars`, or leave it out"
            raise ConfigurationError(f"{_place(subject, name)} has no exemplar; {hint}")


def _place(subject: str, name: str) -> str:
    return f"class {name}" if subject == name else f"{subject} (class {name})"


def split_bags(bags: Bags, held_out_share: float, seed: int) -> tuple[Bags, Bags]:
    """Training and held-out bags, the same share of every class; every class keeps at least one for training."""
    if not len(bags):
        return bags, bags
    generator = torch.Generator().manual_seed(seed)
    training, held_out = [], []
    for class_id in torch.unique(bags.class_ids):
        members = (bags.class_ids == class_id).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        aside = min(round(held_out_share * len(members)), len(members) - 1)
        held_out.append(members[:aside])
        training.append(members[aside:])
    return bags[torch.cat(training)], bags[torch.cat(held_out)]
