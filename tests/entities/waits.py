"""How often a program would wait for a GPU: calls that bring a tensor's values, or how many there are, to the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_WAITING = {"cpu", "numpy", "tolist", "item", "nonzero", "unique", "__bool__", "__int__", "__float__", "__index__"}


class Waits(TorchFunctionMode):
    """Inside `with`, notes the name of every call on a tensor that makes the host wait.

    Attributes:
        names: in the order of the calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        masked = name == "__getitem__" and isinstance(args[1], torch.Tensor) and args[1].dtype == torch.bool
        if name in _WAITING or masked:
            self.names.append(name)
        return function(*args, **(kwargs or {}))
