"""SAM + CLIP: masks that look like names."""

from __future__ import annotations

from dataclasses import replace

from everymask.classes.names import class_settings, labelled_names, load_clip, segment_names
from everymask.classes.segmenter import without_repeats
from everymask.labelling.methods.method import Method

METHOD = Method(
    lambda backbone, embedding, config, head: segment_names(backbone, embedding, config.clip),
    load=lambda config, backbone: load_clip(config.clip, backbone.device),
    needs_picture=lambda config, head: True,
    class_names=lambda config, head: labelled_names(config.clip),
    every_mask=lambda config: replace(config, clip=replace(config.clip, score_thresh=0.0)),
    settle=lambda masks, size_hw, config, head: without_repeats(masks, size_hw, class_settings(config.clip)),
)
