"""Entity-level Mask Refinement: overlaps are settled, then masks of one entity are merged (E-SAM section 3.3)."""

from __future__ import annotations

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.entities.config import EntityConfig
from everymask.entities.gallery import Gallery
from everymask.entities.mergers import merge_similar
from everymask.entities.overlaps import split_overlaps
from everymask.entities.superpixels import Superpixels
from everymask.masks.mask_set import MaskSet


def refine_entities(
    backbone: PromptableBackbone,
    embedding: ImageEmbedding,
    candidates: MaskSet,
    superpixels: Superpixels,
    config: EntityConfig,
) -> MaskSet:
    """Candidates, which may overlap, → the disjoint entity map M_E.

    The `masks` of the result are what became of the candidates; `logits` stay the model's own claim.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    gallery = Gallery(backbone, embedding, config)
    split = split_overlaps(candidates, gallery, embedding.canvas.on_host.cell_area, config)
    features = backbone.sample_features(embedding, superpixels.centroids)
    centroid_cells = embedding.canvas.cells_at(superpixels.centroids)
    return merge_similar(split, gallery, features, centroid_cells, embedding.canvas, config)
