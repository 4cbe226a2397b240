"""Parameters of a method that measurements have decided: they can be varied to measure again, and not by a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, field
from types import MappingProxyType
from typing import Any

DECIDED: Mapping[str, bool] = MappingProxyType({"decided": True})
"""Metadata of a dataclass field that no option and no configuration file of a job sets; Python code and tables can.

Its docstring, or the page that the docstring names, says why the value is as it is."""


def decided(default: Any) -> Any:
    """A field of that kind."""
    return field(default=default, metadata=DECIDED)


def is_decided(of: Field[Any]) -> bool:
    """Whether a field is of that kind."""
    return "decided" in of.metadata
