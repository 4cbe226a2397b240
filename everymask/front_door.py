"""What most programs need: load a model, label an image, open a store, export it.

Offered as `everymask.load_model`, `everymask.label`, … and imported on first use, so `import everymask` is cheap and
loads neither torch nor Ray.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from tqdm.auto import tqdm

from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.classes.config import MaskConfig
from everymask.classes.head import ClassHead, load_head, save_head
from everymask.classes.training.pictures import train_on_pictures
from everymask.classes.training.train import TrainingConfig
from everymask.errors import ConfigurationError, EverymaskError, InputError, LabelFailure, ModelOutputError
from everymask.formats.export import ExportReport, ExportRequest
from everymask.formats.export import export as write_export
from everymask.formats.format import ImagesMode
from everymask.formats.registry import find_format
from everymask.formats.splits import SplitOptions
from everymask.images.decoding import IMAGE_SUFFIXES, ImageLimits
from everymask.images.pixels import ImageLike, rgb_pixels
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.labelling.methods.table import MethodName, check_model
from everymask.labels.provenance import read_run
from everymask.labels.store import LabelStore
from everymask.results import Labels, Mask, Store

load_model = load_backbone

__all__ = [
    "LabelConfig",
    "Labels",
    "Mask",
    "Store",
    "TrainingConfig",
    "export",
    "label",
    "label_folder",
    "load_model",
    "open_store",
    "save_head",
    "train_classes",
]


def label(
    image: ImageLike,
    model: str | PromptableBackbone = "nano",
    *,
    method: MethodName | None = None,
    config: LabelConfig | None = None,
    head: str | Path | ClassHead | None = None,
    limits: ImageLimits | None = None,
) -> Labels:
    """Every mask of one image: entities by default.

    Examples:
        >>> labels = everymask.label("photo.jpg")
        >>> labels.size_hw
        (120, 180)
        >>> all(0 <= mask.score <= 1 for mask in labels.masks)
        True

    Args:
        image: a path, an address such as `s3://…`, a file's bytes, a Pillow picture, or an array: (H, W) or (H, W, C),
            uint8 or floating-point in [0, 1] (`everymask.images.pixels.rgb_pixels`).
        model: name of a model, or one that `load_model` returned. Load it once when you label many images.
        method: what to do: `entities`, `classes`, `amg`, …; None is `classes` where a head is given, else `entities`.
        config: what to do and how, in place of `method`.
        head: class head, its file, or the name of a shipped one (`everyday`), for method `classes`.
        limits: sizes above which an image is refused.

    Raises:
        InputError: the image cannot be read or decoded, or is no image.
        ConfigurationError: unknown method or model, or contradicting options.
        CheckpointError: the model's weights are missing or corrupt.
        ModelOutputError: the model answered with NaN or infinity.
    """
    chosen = _chosen(method, config, head)
    pixels = rgb_pixels(image, limits or ImageLimits())
    backbone, loaded = _prepared(model, chosen, head)
    (labels,) = label_images(backbone, [pixels], chosen, loaded)
    if isinstance(labels, EverymaskError):
        raise labels
    return Labels.of(labels, pixels)


def label_folder(
    folder: str | Path,
    model: str | PromptableBackbone = "nano",
    *,
    method: MethodName | None = None,
    config: LabelConfig | None = None,
    head: str | Path | ClassHead | None = None,
    limits: ImageLimits | None = None,
    progress: bool = True,
) -> Iterator[tuple[str, Labels | LabelFailure]]:
    """Label a local folder's images and subfolders here, one by one, without a cluster or store.

    For more than a few hundred images use `everymask label`, which resumes, uses every GPU, and keeps its results.
    Hidden files and folders are passed over, and label stores. Arguments are as for `label`; `progress` shows a bar.

    Examples:
        >>> for path, found in everymask.label_folder("photos", progress=False):
        ...     print(path, found if isinstance(found, Exception) else found.size_hw)
        broken.jpg not an image in a known format (it starts with b'no pictu')
        deep/photo.jpg (120, 180)

    Yields:
        The path inside the folder with its labels, or with the error that says why there are none, in the order of
            names.

    Raises:
        InputError: there is no such folder, or it holds no image.
        ConfigurationError, CheckpointError: as for `label`.
    """
    chosen = _chosen(method, config, head)
    root = Path(folder)
    paths = sorted(_images_in(root))
    if not paths:
        raise InputError(f"{folder} holds no image (.jpg, .png, .webp, …); give a folder that does")
    backbone, loaded = _prepared(model, chosen, head)

    def labelled() -> Iterator[tuple[str, Labels | LabelFailure]]:
        for path in tqdm(paths, unit="image", disable=not progress):
            try:
                found: Labels | LabelFailure = label(path, backbone, config=chosen, head=loaded, limits=limits)
            except (InputError, ModelOutputError) as error:
                found = error
            yield path.relative_to(root).as_posix(), found

    return labelled()


def train_classes(
    pictures: Mapping[str, Sequence[ImageLike]],
    model: str | PromptableBackbone = "nano",
    *,
    config: TrainingConfig | None = None,
    limits: ImageLimits | None = None,
) -> ClassHead:
    """Train a class head here, on a few dozen pictures that show one object each; `save_head` keeps it.

    For more pictures use `everymask train classes`, which works in parallel and writes a report.

    Examples:
        >>> pictures = {name: [f"shapes/{name}-{number}.png" for number in range(4)] for name in ("disc", "square")}
        >>> head = everymask.train_classes(pictures)
        >>> head.spec.classes
        ('disc', 'square')
        >>> labels = everymask.label("shapes/disc-0.png", head=head)

    Args:
        pictures: class name → pictures of it, each in any form that `label` takes.
        model: as for `label`; the head belongs to this model's weights.
        config: how it is trained.
        limits: sizes above which a picture is refused.

    Raises:
        InputError: a picture cannot be read or decoded, or is no image.
        ConfigurationError: no class, or one without a picture or whose pictures give no mask; unknown model.
        CheckpointError: the model's weights are missing or corrupt.
        ModelOutputError: the model answered with NaN or infinity.
    """
    settings = config or TrainingConfig()
    backbone = load_backbone(model) if isinstance(model, str) else model
    masks = MaskConfig(describer="crop" if "crop" in settings.features else "none")
    rgb = {name: [rgb_pixels(picture, limits or ImageLimits()) for picture in of] for name, of in pictures.items()}
    return train_on_pictures(rgb, backbone, settings, masks).head


def open_store(uri: str | Path) -> Store:
    """Open the label store at a path or an address such as `s3://bucket/labels`.

    Examples:
        >>> store = everymask.open_store("labels")
        >>> len(store)
        1
        >>> store["photo.jpg"].labels
        Labels(180 x 120 px, 2 masks, 50% covered)

    Raises:
        InputError: there is none.
        ConfigurationError: the address cannot be opened.
    """
    store = Store(str(uri))
    if not store.exists() and not store.parts():
        raise InputError(f"{uri} is not a label store: it has neither run.json nor labels/*.parquet")
    return store


def export(
    store: str | Path | LabelStore,
    format: str,
    output: str | Path,
    *,
    segmentation: str | None = None,
    tolerance_px: float | None = None,
    images: ImagesMode | Literal["none"] | None = None,
    split: str | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write a label store atomically in a format that other tools read; returns what was written and lost.

    Examples:
        >>> report = everymask.export("labels", "coco", "labels.json")
        >>> report.images, report.masks
        (1, 2)

    Args:
        store: a label store, or its path or address.
        format: a format's name, such as `coco`; `everymask.formats.registry.FORMATS` lists them.
        output: the file or folder to write, local or remote.
        segmentation: how masks are written, if the format has a choice; None for its first.
        tolerance_px: how far a polygon may deviate from its mask's outline, in pixels.
        images: put the images beside the labels; None copies them if the format's readers need them there.
        split: shares of train, val and test, as `0.8/0.1/0.1`; None for no splits.
        overwrite: replace an earlier export.

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
    request = ExportRequest(
        chosen,
        options,
        str(output),
        chosen.images_mode(images),
        split=SplitOptions.parse(split, None, None),
        overwrite=overwrite,
    )
    return write_export(labels, request)


def _images_in(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        if "run.json" in files and "labels" in folders:
            folders.clear()  # a label store, whose previews are no images of the user's
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name) for name in files if _is_image(name))


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _chosen(method: str | None, config: LabelConfig | None, head: str | Path | ClassHead | None) -> LabelConfig:
    if config is not None:
        if method is not None:
            raise ConfigurationError(f"method {method!r} was given beside config; say it in LabelConfig(method=…)")
        return config
    return LabelConfig(method=method or ("entities" if head is None else "classes"))


def _prepared(
    model: str | PromptableBackbone, config: LabelConfig, head: str | Path | ClassHead | None
) -> tuple[PromptableBackbone, ClassHead | None]:
    if isinstance(model, str):
        check_model(config.method, model)
    backbone = load_backbone(model) if isinstance(model, str) else model
    return backbone, load_head(str(head)) if isinstance(head, str | Path) else head
