"""Each family's publisher: which program answers for it, and in which environment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from everymask_cli.selftest.environments import python_with

_SAM2_NEEDS = (
    "hydra-core==1.3.8",
    "omegaconf==2.4.0",
    "antlr4-python3-runtime==4.9.3",
    "iopath==0.1.10",
    "portalocker",
)


@dataclass(frozen=True)
class Publisher:
    """A publisher's code.

    Attributes:
        name: of its package.
        program: the module that answers a task with it.
        python: finds an interpreter that has it, and installs it where it is missing; raises ConfigurationError.
    """

    name: str
    program: str
    python: Callable[[], Path]


def _this_python() -> Path:
    return Path(sys.executable)


def python_with_sam2() -> Path:
    """The interpreter of an environment with `sam2`; raises as `python_with`."""
    steps = (_SAM2_NEEDS, ("sam2==1.1.0",))
    return python_with("EVERYMASK_SAM2_VENV", "selftest-sam2", steps, {"SAM2_BUILD_CUDA": "0"})


def _python_with_mobile_sam() -> Path:
    if find_spec("mobile_sam"):
        return _this_python()
    return python_with("EVERYMASK_MOBILE_SAM_VENV", "selftest-mobile-sam", (("mobilesam-mirror==1.0",),), {})


PUBLISHERS: Mapping[str, Publisher] = {
    "sam": Publisher("segment_anything", "everymask_cli.selftest.run_sam", _this_python),
    "mobile_sam": Publisher("mobile_sam", "everymask_cli.selftest.run_sam", _python_with_mobile_sam),
    "sam2": Publisher("sam2", "everymask_cli.selftest.run_sam2", python_with_sam2),
    "sam3": Publisher("transformers", "everymask_cli.selftest.run_sam3", _this_python),
}
"""By family of the table of models. `nano` has no publisher but everymask: its answers are recorded."""
