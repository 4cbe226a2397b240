"""The table of methods, readable without their code. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from everymask.backbone.models import find_model
from everymask.errors import ConfigurationError

if TYPE_CHECKING:
    from everymask.labelling.methods.method import Method


@dataclass(frozen=True)
class MethodRow:
    """One method.

    Attributes:
        module: where its `METHOD` is. Its settings are the field of `LabelConfig` with its name.
        needs: required input besides its settings; the other methods refuse it.
        needs_concepts: whether the model must find concepts.
    """

    module: str
    needs: Literal["head", "names"] | None = None
    needs_concepts: bool = False

    def implementation(self) -> Method:
        """The method; imports its code."""
        method: Method = import_module(self.module).METHOD
        return method


_HERE = "everymask.labelling.methods"

METHODS: Mapping[str, MethodRow] = {
    "entities": MethodRow(f"{_HERE}.entities"),
    "classes": MethodRow(f"{_HERE}.classes", needs="head"),
    "clip": MethodRow(f"{_HERE}.clip", needs="names"),
    "concepts": MethodRow(f"{_HERE}.concepts", needs="names", needs_concepts=True),
    "amg": MethodRow(f"{_HERE}.amg"),
}

if TYPE_CHECKING:
    MethodName = str
else:
    # A command line shows the choices, and refuses others.
    MethodName = Literal[tuple(METHODS)]


def find_method(name: str) -> MethodRow:
    """A method's row; ConfigurationError if there is no such method."""
    if name not in METHODS:
        raise ConfigurationError(f"method {name!r} is unknown; use {', '.join(METHODS)}")
    return METHODS[name]


def check_model(name: str, model: str) -> None:
    """ConfigurationError if a method cannot work by a model, or one of them does not exist. Loads nothing."""
    if find_method(name).needs_concepts and not find_model(model).finds_concepts:
        raise ConfigurationError(
            f"model {model} knows no concepts; use --model sam3, or --method clip, which compares names with masks of "
            "any model"
        )


def check_given(name: str, *, head: bool, names: bool) -> None:
    """ConfigurationError if a method lacks what it needs, gets what another needs, or does not exist."""
    needs = find_method(name).needs
    if head and needs != "head":
        raise ConfigurationError(f"a class head is of no use to method {name}; leave it out, or use method classes")
    if names and needs != "names":
        raise ConfigurationError(f"names are of no use to method {name}; leave them out, or use concepts or clip")
    if needs == "head" and not head:
        raise ConfigurationError(
            f"method {name} needs a class head; make one with `everymask train classes`, then --head FILE"
        )
    if needs == "names" and not names:
        raise ConfigurationError(f"method {name} needs names: --names cat,dog")
