"""The names of a request as settings of the library."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from everymask.backbone.protocol import PromptableBackbone
from everymask.classes.phrases import BACKGROUND, parse_phrases
from everymask.labelling.config import LabelConfig
from everymask.labelling.methods.table import find_method
from everymask.labelling.names import with_phrases
from serve.tasks import AlikeTask, NamesTask

NamesMethod = Literal["clip", "concepts"]


def config_by_names(labels: LabelConfig, method: NamesMethod, task: NamesTask) -> LabelConfig:
    """The service's configuration with a client's names. Never reads a name as a file.

    Raises:
        ConfigurationError: the names are invalid.
    """
    thresh = task.score_thresh
    if method == "clip":
        clip = replace(labels.clip, names=task.names)
        return replace(labels, method="clip", clip=clip if thresh is None else replace(clip, score_thresh=thresh))
    concepts = labels.concepts if thresh is None else replace(labels.concepts, score_thresh=thresh)
    return with_phrases(replace(labels, method="concepts", concepts=concepts), parse_phrases(task.names))


def config_by_examples(labels: LabelConfig, task: AlikeTask) -> LabelConfig:
    """The service's configuration with a client's examples. Never reads a name as a file.

    Raises:
        ConfigurationError: the name is invalid, or there are several.
    """
    if task.names:
        return config_by_names(labels, "concepts", NamesTask(task.names, task.score_thresh))
    concepts = replace(labels.concepts, names=(), classes={}, negatives=())
    thresh = task.score_thresh
    return replace(
        labels, method="concepts", concepts=concepts if thresh is None else replace(concepts, score_thresh=thresh)
    )


def load_for_names(labels: LabelConfig, method: NamesMethod, backbone: PromptableBackbone) -> None:
    """Load the model that answers names, before the first request.

    Raises:
        ConfigurationError, CheckpointError: it cannot be loaded.
    """
    load = find_method(method).implementation().load
    assert load is not None
    load(config_by_names(labels, method, NamesTask(("object", BACKGROUND), None)), backbone)
