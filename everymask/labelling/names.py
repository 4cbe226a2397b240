"""The names that a user gives, for the methods that take some. Imports no model code."""

from __future__ import annotations

from dataclasses import replace

from everymask.classes.phrases import Phrases, read_phrases
from everymask.classes.taxonomy import Taxonomy
from everymask.labelling.config import LabelConfig

NAMED = ("clip.names", "concepts.names", "concepts.classes", "concepts.negatives")
"""The settings that names fill, which are no options of their own."""


def with_names(config: LabelConfig, text: str) -> LabelConfig:
    """The configuration with the names that `--names` gives: `cat,dog`, `animals=cat+dog`, or a file of them.

    Raises:
        ConfigurationError: they are of no use.
    """
    if config.method == "concepts":
        return with_phrases(config, read_phrases(text))
    return replace(config, clip=replace(config.clip, names=Taxonomy.parse(text).classes))


def with_phrases(config: LabelConfig, phrases: Phrases) -> LabelConfig:
    """The configuration with what method concepts is asked for.

    Raises:
        ConfigurationError: it is of no use.
    """
    return replace(
        config,
        concepts=replace(
            config.concepts, names=phrases.names, classes=dict(phrases.classes), negatives=phrases.negatives
        ),
    )


def has_names(config: LabelConfig) -> bool:
    """Whether names are given to the method; to some method, where this one takes none."""
    own = {"clip": config.clip.names, "concepts": config.concepts.names}
    return bool(own[config.method] if config.method in own else any(own.values()))
