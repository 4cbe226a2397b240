"""Exemplars cut from your own pictures where SAM 3 is sure of an object: a large model teaches a small head."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from everymask.backbone.embedding import embed_images
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.classes.concepts import load_concepts, segment_concepts
from everymask.classes.config import ConceptsConfig
from everymask.classes.exemplars.boxes import cut_out
from everymask.classes.exemplars.folder import folder_pictures
from everymask.classes.exemplars.manifest import Origin
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError, InputError, ModelOutputError
from everymask.files.storage import one_line
from everymask.images.decoding import ImageLimits, decode_image

logger = logging.getLogger(__name__)

SURE = 0.8
"""Least score of an object that is cut out (our choice): a wrong exemplar costs more than a missing one."""


def concept_pictures(
    backbone: PromptableBackbone,
    images: str | Path,
    taxonomy: Taxonomy,
    config: ConceptsConfig,
    margin: float,
    limits: ImageLimits,
) -> Iterator[tuple[Origin, bytes]]:
    """Cut out the objects of the subjects in `taxonomy` that a model is sure of, as JPEG files in a fixed order.

    A damaged image is left out, with a warning.

    Args:
        backbone: finds concepts.
        images: a folder of pictures, with subfolders.
        taxonomy: the subjects, each a phrase for the model.
        config: least score and treatment of overlaps; its names are those of `taxonomy`.
        margin: surroundings on each side, as a share of the box's longer side.
        limits: bounds on reading an image.

    Raises:
        ConfigurationError: the backbone answers no names or cannot read one, the folder is missing or holds no picture,
            or no object of a subject was found.
        CheckpointError: its weights or its vocabulary are missing.
    """
    subjects = tuple(subject for subject, _ in taxonomy.subjects)
    config = replace(config, names=subjects, classes={})
    load_concepts(backbone, config)
    found: set[str] = set()
    for picture in folder_pictures(images, "--input"):
        uri = picture.origin.url
        try:
            pixels = decode_image(Path(uri).read_bytes(), limits)
            (embedding,) = embed_images(backbone, [pixels])
            if not isinstance(embedding, ImageEmbedding):
                raise embedding
            labels = segment_concepts(backbone, embedding, config)
        except (InputError, ModelOutputError, OSError) as error:
            logger.warning("%s is left out: %s", uri, one_line(error))
            continue
        for mask in labels.masks:
            assert mask.class_name is not None
            found.add(mask.class_name)
            place, data = cut_out(pixels, mask.box_xyxy, margin)
            yield Origin(mask.class_name, "concepts", model=backbone.name, url=f"{uri}{place}"), data
    missing = [subject for subject in subjects if subject not in found]
    if missing:
        raise ConfigurationError(
            f"no {' and no '.join(missing)} was found in {images} with a score of {config.score_thresh:g} or more; use "
            "other words, other pictures, or a lower --concepts.score-thresh"
        )
