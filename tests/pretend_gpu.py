"""A pretend GPU, for a process of its own: tensors say `cuda:0`, are computed on the CPU, and refuse the CPU's tensors.

It shows where a computation would mix devices, and what autocast would compute in 16 bits; never how fast it would be.
Importing it changes torch for the whole process.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)
computed: Counter[torch.dtype] = Counter()
"""Floating-point results of the pretend device, by type."""

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
            return args[0].on_cpu.tolist()
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
    found = func(*given, **options)
    written = [place for place, one in enumerate(func._schema.arguments) if one.alias_info and one.alias_info.is_write]
    returned = func._schema.returns
    if written and returned and returned[0].alias_info is not None and returned[0].alias_info.is_write:
        return args[written[0]] if written[0] < len(args) else kwargs[func._schema.arguments[written[0]].name]
    return tree_map(_on_gpu, found) if (ours and kind != "cpu") or kind == "cuda" else found


def _on_cpu(value: Any) -> Any:
    return value.on_cpu if isinstance(value, PretendTensor) else value


def _on_gpu(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if value.is_floating_point():
        computed[value.dtype] += 1
    return PretendTensor(value)
