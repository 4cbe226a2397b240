"""The configuration of a run: everything that changes a label, and what is labelled."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from data_jobs.labelling.model_spec import ModelFacts
from everymask.images import ImageLimits
from everymask.label_config import LabelConfig
from everymask.labels.identity import label_settings
from everymask.redaction import redact
from everymask.storage import canonical_uri


def run_configuration(source: str, config: LabelConfig, facts: ModelFacts, limits: ImageLimits) -> dict[str, Any]:
    """What all rows of one store have in common, as run.json and every part hold it.

    Args:
        source: path or address of the input, or of the mask embeddings.
        config: method and options.
        facts: of the model and the class head.
        limits: of images.
    """
    settings = label_settings(config, facts.model, facts.weights_sha256, facts.head_sha256, facts.class_names)
    return {"input": redact(canonical_uri(source)), **settings, "limits": asdict(limits)}
