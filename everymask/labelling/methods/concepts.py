"""SAM 3 asked by name: every object that a phrase describes."""

from __future__ import annotations

from dataclasses import replace

from everymask.classes.concepts import load_concepts, segment_concepts, settle_concepts
from everymask.labelling.methods.method import Method

METHOD = Method(
    lambda backbone, embedding, config, head: segment_concepts(backbone, embedding, config.concepts),
    load=lambda config, backbone: load_concepts(backbone, config.concepts),
    class_names=lambda config, head: config.concepts.class_names,
    every_mask=lambda config: replace(config, concepts=replace(config.concepts, score_thresh=_EVERY_SCORE)),
    settle=lambda masks, size_hw, config, head: settle_concepts(masks, size_hw, config.concepts),
)

_EVERY_SCORE = 0.05
"""Least score of a mask where AP is measured (our choice): below it lie most of the 200 answers to every name, which
change no figure and take all the time."""
