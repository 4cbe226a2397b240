"""The configuration of a run: everything that changes a label, and what is labelled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from data_jobs.labelling.model_spec import ModelFacts
from everymask.backbone.models import PrecisionSetting
from everymask.classes.shipped import head_file
from everymask.files.storage import canonical_uri
from everymask.images.decoding import ImageLimits
from everymask.images.sources.options import DEFAULT_OPTIONS, SourceOptions
from everymask.labelling.config import LabelConfig
from everymask.redaction import redact

OF_THE_MODEL = ("weights_sha256", "head_sha256", "class_names")
"""Keys of the configuration that only a look into the model tells; so does the threshold of a run that gives none."""


def run_configuration(
    source: str,
    config: LabelConfig,
    facts: ModelFacts,
    limits: ImageLimits,
    sources: SourceOptions = DEFAULT_OPTIONS,
) -> dict[str, Any]:
    """What all rows of one store have in common, as run.json and every part hold it.

    Args:
        source: path or address of the input, or of the mask embeddings.
        config: method and options.
        facts: what is known of the model and the class head.
        limits: what an image may cost to read.
        sources: what is taken of files that hold images; as nobody says otherwise, it is left out.
    """
    said = {} if sources == DEFAULT_OPTIONS else {"sources": asdict(sources)}
    return {"input": redact(canonical_uri(source)), **facts.settings(config), "limits": asdict(limits), **said}


def configuration_without_model(
    source: str,
    config: LabelConfig,
    model: str,
    limits: ImageLimits,
    sources: SourceOptions = DEFAULT_OPTIONS,
    head: str | None = None,
    precision: PrecisionSetting = "auto",
) -> dict[str, Any]:
    """What of `run_configuration` is known before the model is looked into: of the class head, its digest."""
    facts = ModelFacts(model, "", "", None, None, precision=precision)
    complete = run_configuration(source, config, facts, limits, sources)
    known = {name: value for name, value in complete.items() if name not in OF_THE_MODEL}
    if head is not None:
        with suppress(OSError):  # the worker that cannot read it says so
            known["head_sha256"] = hashlib.sha256(head_file(head).read_bytes()).hexdigest()
    return known


def comparable(recorded: Mapping[str, Any], configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What a run recorded of the settings that are known now; `configuration` may be one without the model."""
    known = configuration.keys() | recorded.keys() - set(OF_THE_MODEL)
    found = {name: recorded.get(name) for name in known}
    before, now = found.get("classes"), configuration.get("classes")
    if before and now and now["score_thresh"] is None:
        found["classes"] = {**before, "score_thresh": None}
    return found
