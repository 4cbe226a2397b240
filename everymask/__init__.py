"""everymask: masks for image collections with the Segment Anything Model, without annotators.

    import everymask

    for mask in everymask.label("photo.jpg").masks:
        print(mask.score, mask.box_xyxy, mask.area)

`everymask.front_door` documents the names offered here. They are imported on first use (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everymask.front_door import (
        LabelConfig,
        Labels,
        Mask,
        Store,
        TrainingConfig,
        export,
        label,
        label_folder,
        load_model,
        open_store,
        save_head,
        train_classes,
    )

__version__ = "0.1.0"

__all__ = [
    "LabelConfig",
    "Labels",
    "Mask",
    "Store",
    "TrainingConfig",
    "__version__",
    "export",
    "label",
    "label_folder",
    "load_model",
    "open_store",
    "save_head",
    "train_classes",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from everymask import front_door

        return getattr(front_door, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
