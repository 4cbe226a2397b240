"""E-SAM: every entity once."""

from __future__ import annotations

from everymask.entities.segmenter import segment_entities
from everymask.labelling.methods.method import Method

METHOD = Method(lambda backbone, embedding, config, head: segment_entities(backbone, embedding, config.entities))
