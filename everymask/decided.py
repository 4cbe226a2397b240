"""Parameters that measurements have decided: they can be varied to measure again, but not by a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, field
from types import MappingProxyType
from typing import Any

DECIDED: Mapping[str, bool] = MappingProxyType({"decided": True})
"""Metadata of a dataclass field that no job's option or configuration file sets; Python code and tables can.

The field's docstring, or a page it names, gives the reason for the value.
"""


def decided(default: Any) -> Any:
    """A field with that metadata."""
    return field(default=default, metadata=DECIDED)


def is_decided(of: Field[Any]) -> bool:
    return "decided" in of.metadata
