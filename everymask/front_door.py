"""What most programs want: load a model, label an image, open a store, export it.

They are offered as `everymask.load_model`, `everymask.label`, … and imported on first use, so that `import everymask`
costs nothing and loads neither torch nor Ray.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.classes.head import ClassHead, load_head
from everymask.errors import EverymaskError, InputError
from everymask.formats.export import ExportReport, ExportRequest
from everymask.formats.export import export as write_export
from everymask.formats.registry import find_format
from everymask.images.decoding import ImageLimits, decode_image
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.labels.provenance import read_run
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels

load_model = load_backbone

__all__ = ["LabelConfig", "export", "label", "load_model", "open_store"]


def label(
    image: str | Path | bytes | NDArray[np.uint8],
    model: str | PromptableBackbone = "nano",
    *,
    config: LabelConfig | None = None,
    head: str | Path | ClassHead | None = None,
    limits: ImageLimits | None = None,
) -> ImageLabels:
    """Every mask of one image: entities by default.

    Args:
        image: path of an image file, its bytes, or an (H, W, 3) uint8 RGB array.
        model: name of a model, or one that `load_model` returned. Load it once when you label many images.
        config: what to do and how; `LabelConfig(method="classes")` by default where a head is given.
        head: class head, or its file, for method `classes`.
        limits: sizes above which a file is refused before decoding.

    Raises:
        InputError: the image cannot be read or decoded.
        ConfigurationError: unknown model, or options that do not fit together.
        CheckpointError: the model's weights are missing or corrupt.
        ModelOutputError: the model answered with NaN or infinity.
    """
    pixels = image if isinstance(image, np.ndarray) else decode_image(_read(image), limits or ImageLimits())
    backbone = load_backbone(model) if isinstance(model, str) else model
    loaded = load_head(str(head)) if isinstance(head, str | Path) else head
    chosen = config or LabelConfig(method="entities" if loaded is None else "classes")
    (labels,) = label_images(backbone, [pixels], chosen, loaded)
    if isinstance(labels, EverymaskError):
        raise labels
    return labels


def open_store(uri: str | Path) -> LabelStore:
    """The label store at a path or an address such as `s3://bucket/labels`.

    Raises:
        ConfigurationError: the address cannot be opened.
    """
    return LabelStore(str(uri))


def export(
    store: str | Path | LabelStore,
    format: str,
    output: str | Path,
    *,
    segmentation: str | None = None,
    tolerance_px: float | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write a label store in a format that other tools read, whole or not at all.

    Args:
        store: a label store, or its path or address.
        format: name of a format, such as `coco`; `everymask.formats.registry.FORMATS` lists them.
        output: the file or folder to write, local or remote.
        segmentation: how masks are written, where the format has a choice; None for its first.
        tolerance_px: how far a polygon may leave the outline of its mask, in pixels.
        overwrite: replace an earlier export.

    Returns:
        what was written, and what the format lost.

    Raises:
        ConfigurationError: unknown format or option.
        InputError: there is no label store, or its labels do not fit the format.
        OutputError: the output cannot be written.
    """
    labels = store if isinstance(store, LabelStore) else open_store(store)
    chosen = find_format(format)
    record = read_run(labels)
    model_version = record.config_sha256[:12] if record else "unknown"
    options = chosen.options(segmentation, tolerance_px, None, model_version)
    return write_export(labels, ExportRequest(chosen, options, str(output), overwrite=overwrite))


def _read(image: str | Path | bytes) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise InputError(f"{image} cannot be read ({error.strerror}); check the path") from error
