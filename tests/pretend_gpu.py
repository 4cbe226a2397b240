"""A pretend GPU, for a process of its own: tensors say `cuda:0`, are computed on the CPU, and refuse the CPU's tensors.

It shows where a computation would mix devices, what autocast would compute in 16 bits, and how often a GPU would be
started or waited for; never how fast it would be. Importing it changes torch for the whole process.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)
computed: Counter[torch.dtype] = Counter()
"""Floating-point results of the pretend device, by type."""

_VIEWS = {
    *("_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "diagonal", "expand", "lift_fresh", "permute"),
    *("reshape", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold"),
    *("unsqueeze", "view", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_"),
}
"""Operations that start no kernel: other views of the same memory, and memory that nobody has written."""

_WAITS = {
    *("_local_scalar_dense", "_unique", "_unique2", "bincount", "equal", "is_nonzero", "masked_select", "nonzero"),
    *("unique_consecutive", "unique_dim"),
}
"""Operations that a GPU cannot answer before it has finished: the host needs a value, or a shape that depends on it."""

_MAY_MIX = {"copy_", "_to_copy", "index", "index_put_", "index_put", "_index_put_impl_"}
"""Operations that take tensors of both devices on a real GPU, too."""

torch.cuda._lazy_init = lambda: None  # type: ignore[attr-defined]
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 1  # type: ignore[assignment]
torch.cuda.is_bf16_supported = lambda *_, **__: True  # type: ignore[assignment]
torch.cuda.amp.common.amp_definitely_not_available = lambda: False
torch.backends.cudnn.enabled = False
torch._C._ensureCUDADeviceGuardSet()
torch.__future__.set_overwrite_module_params_on_conversion(True)
# Inference tensors pass the dispatch by.
torch.inference_mode = lambda *_, **__: torch.no_grad()  # type: ignore[assignment,misc]
_real_tensor = torch.tensor


@dataclass
class Work:
    """What a GPU would have been asked to do, by the line of everymask that asked.

    Attributes:
        kernels: operations started.
        waits: times that the host stands still until all of them are done.
        uploads: copies to the device.
        paused: while it is true, nothing is counted.
    """

    kernels: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)
    paused: bool = False

    def clear(self) -> None:
        for counter in (self.kernels, self.waits, self.uploads):
            counter.clear()

    def count(self, counter: Counter[str]) -> None:
        if not self.paused:
            counter[_asking_line()] += 1


work = Work()


def _asking_line() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        if "/everymask/" in frame.f_code.co_filename:
            return f"{frame.f_code.co_filename.rsplit('/everymask/', 1)[1]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


def _tensor(data: Any, *, device: torch.device | str | None = None, **options: Any) -> torch.Tensor:
    """`torch.tensor`, which would look for a driver where the device is a GPU."""
    made = _real_tensor(data, **options)
    return made if device is None else made.to(device)


torch.tensor = _tensor


class PretendTensor(torch.Tensor):
    """A tensor of the pretend device."""

    on_cpu: torch.Tensor

    @staticmethod
    def __new__(cls, on_cpu: torch.Tensor) -> PretendTensor:
        made: PretendTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, on_cpu.size(), strides=on_cpu.stride(), dtype=on_cpu.dtype, layout=on_cpu.layout, device=DEVICE
        )
        made.on_cpu = on_cpu
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "tolist":
            work.count(work.waits)
            return args[0].on_cpu.tolist()
        if name == "scaled_dot_product_attention":
            work.count(work.kernels)
            with torch._C.DisableTorchFunctionSubclass():
                return PretendTensor(func(*tree_map(_on_cpu, args), **tree_map(_on_cpu, kwargs or {})))
        if name == "new_tensor":
            return _tensor(args[1], **{"dtype": args[0].dtype, "device": DEVICE, **(kwargs or {})})
        if name == "numpy":
            raise TypeError("a tensor of the GPU has no numpy array; bring it to the CPU first")
        return torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _compute(func, args, kwargs or {})


class PretendGpu(TorchDispatchMode):
    """While this is on, `device="cuda"` means the pretend device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name.split("::")[-1]
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    ours = any(isinstance(one, PretendTensor) for one in tensors)
    asked = kwargs.get("device")
    kind = None if asked is None else torch.device(asked).type
    if ours and name not in _MAY_MIX and any(not isinstance(one, PretendTensor) and one.dim() for one in tensors):
        raise RuntimeError(f"{func} was given tensors of the GPU and of the CPU")
    if name in ("pin_memory", "_pin_memory"):
        return args[0]
    if name == "_fused_sdp_choice":
        return 0
    given, options = tree_map(_on_cpu, args), tree_map(_on_cpu, kwargs)
    if asked is not None:
        options["device"] = torch.device("cpu")
    _count(name, args, kind, ours)
    found = func(*given, **options)
    written = [place for place, one in enumerate(func._schema.arguments) if one.alias_info and one.alias_info.is_write]
    returned = func._schema.returns
    if written and returned and returned[0].alias_info is not None and returned[0].alias_info.is_write:
        return args[written[0]] if written[0] < len(args) else kwargs[func._schema.arguments[written[0]].name]
    return tree_map(_on_gpu, found) if (ours and kind != "cpu") or kind == "cuda" else found


def _count(name: str, args: Any, kind: str | None, ours: bool) -> None:
    """Count an operation: `ours` is whether it reads the device, `kind` the sort of device that it was told to use."""
    if name in ("copy_", "_to_copy"):
        to_us = (
            isinstance(args[0], PretendTensor) if name == "copy_" else (kind or ("cuda" if ours else "cpu")) == "cuda"
        )
        from_us = isinstance(args[1 if name == "copy_" else 0], PretendTensor)
        if to_us != from_us:
            work.count(work.uploads if to_us else work.waits)
            return
    if not ours and kind != "cuda":
        return
    if name in ("index", "index_put_", "_index_put_impl_", "index_put"):
        for one in args[1]:
            if one is not None and not isinstance(one, PretendTensor):
                work.count(work.uploads)
            if one is not None and one.dtype == torch.bool:
                work.count(work.waits)
    if name in _WAITS:
        work.count(work.waits)
    if name not in _VIEWS:
        work.count(work.kernels)


def _on_cpu(value: Any) -> Any:
    return value.on_cpu if isinstance(value, PretendTensor) else value


def _on_gpu(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if value.is_floating_point():
        computed[value.dtype] += 1
    return PretendTensor(value)
