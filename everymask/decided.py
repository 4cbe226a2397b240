"""Parameters of a method that measurements have decided: they can be varied to measure again, and not by a run."""

from __future__ import annotations

from dataclasses import Field, field
from typing import Any

_DECIDED = "decided"


def decided(default: Any) -> Any:
    """A dataclass field that no command line, configuration file or service sets; Python code and tables can.

    Its docstring, or the page that the docstring names, says why the value is as it is.
    """
    return field(default=default, metadata={_DECIDED: True})


def is_decided(of: Field[Any]) -> bool:
    """Whether a dataclass field is of that kind."""
    return _DECIDED in of.metadata
