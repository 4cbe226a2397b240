"""A class head from pictures in memory, without a cluster and without files between: for a few dozen pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.backbone.embedding import embed_images
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.embeddings import MaskEmbeddings, StoredEmbeddings
from everymask.classes.segmenter import describe_masks
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.bags import make_bags
from everymask.classes.training.train import TrainingConfig, TrainingResult, head_spec, train_head


def train_on_pictures(
    pictures: Mapping[str, Sequence[NDArray[np.uint8]]],
    backbone: PromptableBackbone,
    config: TrainingConfig,
    masks: MaskConfig,
) -> TrainingResult:
    """Train a class head on pictures that show one object each (U-SAM, section 3.3).

    Args:
        pictures: class name → RGB pictures of it, (H, W, 3) uint8.
        backbone: makes the masks that the head will name.
        config: how it is trained.
        masks: which masks of a picture are described.

    Raises:
        ConfigurationError: a class has no picture, or its pictures give no mask.
        ModelOutputError: the model answered with NaN or infinity.
    """
    described = [
        (name, StoredEmbeddings(f"{name}/{number}", "", "", _described(picture, backbone, masks)))
        for name, of_class in pictures.items()
        for number, picture in enumerate(of_class)
    ]
    taxonomy = Taxonomy(tuple((name, name) for name in pictures))
    subjects = {record.image_id: name for name, record in described}
    bags = make_bags([record for _, record in described], subjects, taxonomy, config.features)
    return train_head(bags, head_spec(taxonomy.classes, backbone, config), config)


def _described(picture: NDArray[np.uint8], backbone: PromptableBackbone, masks: MaskConfig) -> MaskEmbeddings:
    (embedding,) = embed_images(backbone, [picture], keep_picture=True)
    if not isinstance(embedding, ImageEmbedding):
        raise embedding
    return describe_masks(backbone, embedding, ClassesConfig(masks=masks))
