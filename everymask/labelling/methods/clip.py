"""SAM + CLIP: masks that look like names."""

from __future__ import annotations

from dataclasses import replace

from everymask.classes.names import class_settings, labelled_names, load_clip, segment_names
from everymask.labelling.methods.method import Method

METHOD = Method(
    lambda backbone, embedding, config, head: segment_names(backbone, embedding, config.clip),
    load=lambda config, device: load_clip(config.clip, device),
    needs_picture=lambda config, head: True,
    class_names=lambda config, head: labelled_names(config.clip),
    every_mask=lambda config: replace(config, clip=replace(config.clip, score_thresh=0.0)),
    suppression=lambda config, head: class_settings(config.clip),
)
