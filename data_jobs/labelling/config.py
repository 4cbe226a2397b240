"""Everything that labelling a dataset can be told; the command line is made from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from data_jobs.labelling.estimate import MIN_IMAGES
from data_jobs.labelling.prices import Prices, parse_prices
from everymask.backbone.models import ModelName, model_help
from everymask.classes.class_set import ClassSet
from everymask.classes.config import ClassesConfig, ClipConfig
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.errors import ConfigurationError
from everymask.images.decoding import ImageLimits
from everymask.labelling.config import LabelConfig, Method


@dataclass(frozen=True)
class LabelDatasetConfig:
    """Label every image of a folder, a glob, a list, a manifest or a bucket. The same command again resumes."""

    output: str
    """Folder or address of the label store. On a cluster of several machines all must reach it."""
    input: str | None = None
    """A folder (with subfolders), a glob in quotes, a .txt list, a .parquet manifest with a column `uri`, or one image;
    local, s3://, gs:// or any other address pyarrow or fsspec opens."""
    method: Method = "entities"
    """entities: every entity once (E-SAM); classes: your classes (U-SAM), needs --head; clip: SAM's masks named
    by CLIP, needs --class-names and no exemplars; amg: SAM's automatic masks, which overlap."""
    model: Annotated[ModelName, tyro.conf.arg(help=model_help())] = "nano"
    checkpoint: str | None = None
    """File or URL of other weights of that model."""
    head: str | None = None
    """Class head for --method classes, from train_classes.py."""
    class_names: str | None = None
    """Names for --method clip: `cat,dog,background`. Masks that look like background are not labelled."""
    save_embeddings: str | None = None
    """Folder or address where method classes keeps its mask embeddings, for --from-embeddings."""
    from_embeddings: str | None = None
    """Label the images of such a folder with --head, without --input and without running the model."""
    device: str = "auto"
    """cpu, cuda, cuda:N, or auto: cuda for workers that were given a GPU (they refuse if they see none), else what is
    there."""
    actors: str = "auto"
    """Model workers: N, MIN:MAX (scaled to the work waiting), or auto: one for each GPU, else as many as CPUs allow."""
    gpus_per_actor: float | None = None
    """Share of a GPU for each worker; by default 1 where the cluster has GPUs now, else 0. Set it where GPU machines
    start only when asked for."""
    node_labels: tuple[str, ...] = ()
    """Run the model workers only on machines with these Ray labels: KEY=VALUE, such as ray.io/market-type=on-demand."""
    batch_size: int | None = None
    """Images encoded together; by default what suits the model on a GPU, 1 on a CPU, where more gain nothing. Rounding
    depends on it."""
    retry_failed: bool = False
    """Label again the images whose row is an error; other rows stay as they are."""
    overwrite: bool = False
    """Delete the labels that an earlier run has left in the output, and nothing else, then start from nothing."""
    discard_corrections: bool = False
    """With --overwrite: delete what people corrected as well. Without it labels that people corrected stay."""
    verify: bool = False
    """First read every page of the labels that are there. Damaged parts move to quarantine/; their images are labelled
    again. Without this flag a run looks at image ids only."""
    limit: int | None = None
    """Only the first so many images of the input."""
    max_errors: str = "50%"
    """Exit with 3 if more images failed than this: a number, or a percentage of all."""
    estimate: int | None = None
    """Label only a sample of so many images, say what all of them will take, and stop. The sample's rows count: without
    this flag the same command goes on from there, and compares in the end."""
    price_per_gpu_hour: float | None = None
    """With --estimate: what one GPU with its share of the machine costs for an hour; the estimate then has the cost."""
    spot_price_per_gpu_hour: float | None = None
    """The same on spot machines (nodes with Ray's label ray.io/market-type=spot)."""
    previews: int = 24
    """Most images in preview/index.html; 0 writes none."""
    min_region_area: int = 0
    """Connected parts and holes of masks under this many pixels are removed; 0 leaves masks as they are."""
    max_region_area: int | None = None
    """Masks of more pixels than this are left out. By default none are."""
    tiles: int = 1
    """Tiles along a picture's longer side that are labelled beside the whole, at full detail, and joined across their
    seams. For large pictures with small things; the time grows with the number of tiles."""
    limits: ImageLimits = field(default_factory=ImageLimits)
    entities: EntityConfig = field(default_factory=EntityConfig)
    amg: AmgConfig = field(default_factory=AmgConfig)
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)

    def __post_init__(self) -> None:
        if self.method == "classes" and self.head is None:
            raise ConfigurationError(
                "method classes needs a class head; make one with train_classes.py, then --head FILE"
            )
        if (self.method == "clip") != (self.class_names is not None):
            raise ConfigurationError("--method clip and --class-names cat,dog go together; give both or neither")
        if (self.input is None) == (self.from_embeddings is None):
            raise ConfigurationError("give what to label: --input, or --from-embeddings")
        if self.method != "classes" and (self.save_embeddings or self.from_embeddings):
            raise ConfigurationError(f"mask embeddings are for --method classes, not {self.method}; leave them out")
        if self.from_embeddings and (self.save_embeddings or self.estimate or self.limit):
            raise ConfigurationError(
                "--from-embeddings labels all it holds; leave out --save-embeddings, --estimate and --limit"
            )
        if self.tiles > 1 and (self.save_embeddings or self.from_embeddings):
            raise ConfigurationError("mask embeddings are of whole pictures; leave out --tiles or the embeddings")
        if self.method != "classes" and self.head is not None:
            raise ConfigurationError(f"--head is for --method classes; leave it out for {self.method}")
        if self.retry_failed and self.overwrite:
            raise ConfigurationError(
                "--overwrite starts from nothing, so there is no failed image to retry; choose one"
            )
        for name, least in (("batch_size", 1), ("limit", 1), ("previews", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigurationError(f"{name.replace('_', '-')} must be at least {least}; got {value}")
        if self.estimate is not None and self.estimate < MIN_IMAGES:
            raise ConfigurationError(f"an estimate needs a sample of at least {MIN_IMAGES}; got {self.estimate}")
        if self.prices() is not None and self.estimate is None:
            raise ConfigurationError("--price-per-gpu-hour is for an estimate of the cost; add --estimate 200")
        tolerated_errors(self.max_errors, 1)
        self.label_config()

    def prices(self) -> Prices | None:
        """For the estimate; raises as `parse_prices`."""
        return parse_prices(self.price_per_gpu_hour, self.spot_price_per_gpu_hour)

    def label_config(self) -> LabelConfig:
        """What the library is asked to do."""
        return LabelConfig(
            self.method,
            self.entities,
            self.amg,
            self.classes,
            self._clip(),
            min_region_area=self.min_region_area,
            max_region_area=self.max_region_area,
            tiles=self.tiles,
        )

    def _clip(self) -> ClipConfig:
        if self.class_names is None:
            return self.clip
        return replace(self.clip, names=ClassSet.parse(self.class_names).classes)


def tolerated_errors(max_errors: str, images: int) -> float:
    """How many of `images` may fail: `N`, or `P%` of them.

    Raises:
        ConfigurationError: neither form.
    """
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", max_errors)
    if match is None:
        raise ConfigurationError(f"max-errors must be a number or a percentage such as 5%; got {max_errors!r}")
    return float(match[1]) if match[1] else float(match[2]) / 100 * images
