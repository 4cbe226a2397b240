"""Options of labelling, relabelling and estimating."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from data_jobs.labelling.estimate import MIN_IMAGES
from data_jobs.labelling.limits import tolerated
from data_jobs.labelling.prices import parse_prices
from data_jobs.labelling.share import Share
from data_jobs.runtime.options import AddressOptions, ModelOptions, WorkerOptions, refuse_idle
from data_jobs.runtime.settings import JOINED, Without
from everymask.classes.config import ClassesConfig, Recipe
from everymask.classes.recipes import PAPER_CLASSES, PAPER_MASKS, below
from everymask.errors import ConfigurationError
from everymask.files.addresses import AddressPolicy
from everymask.files.storage import canonical_uri
from everymask.images.decoding import ImageLimits
from everymask.images.sources.options import SourceOptions
from everymask.labelling.config import LabelConfig
from everymask.labelling.methods.table import METHODS, check_given, check_model
from everymask.labelling.names import NAMED, with_names
from everymask.labels.shards import MAX_SHARD_IMAGES


@dataclass(frozen=True)
class StoreOptions:
    """The label store, and what happens to its contents."""

    output: str
    """Folder or address of the label store. On a cluster of several machines all must reach it."""
    retry_failed: bool = False
    """Label again the images whose row is an error; other rows stay as they are."""
    keep_changed: bool = False
    """Keep the labels of images whose files have changed. Without it a file with a new size or date is read, and
    labelled again if its content differs."""
    update: bool = False
    """Label anew with another head, model or setting. The former labels count until all are made; people's corrections
    are carried over to the new ones. Killed, the same command resumes."""
    overwrite: bool = False
    """Delete an earlier run's labels in the output, and nothing else, then start from scratch. A store with corrections
    is refused."""
    verify: bool = False
    """First read every page of the existing labels. Damaged parts move to quarantine/; their images are labelled again.
    Without this flag a run reads only image ids."""
    max_errors: str = "50%"
    """Exit with 3 if more images failed than this: a number, or a percentage of all."""
    previews: int = 24
    """Most images in preview/index.html; 0 writes none."""

    def __post_init__(self) -> None:
        if self.retry_failed and self.overwrite:
            raise ConfigurationError(
                "--overwrite starts from nothing, so there is no failed image to retry; choose one"
            )
        if self.update and self.overwrite:
            raise ConfigurationError("--update carries corrections over, --overwrite starts from nothing; choose one")
        if self.previews < 0:
            raise ConfigurationError(f"previews must not be negative; got {self.previews}")
        tolerated(self.max_errors, 1, "max-errors")


@dataclass(frozen=True)
class LabelDatasetConfig:
    """Label every image of a collection."""

    input: str
    """A folder (with subfolders), a glob in quotes, shards such as train-{000..127}.tar, a .txt list, a table with a
    column `uri` or with images (.parquet; .csv and .jsonl with `uri`), a data set (hf://datasets/NAME, save_to_disk),
    or one image; local, s3:// or gs://."""
    store: Annotated[StoreOptions, JOINED]
    model: Annotated[ModelOptions, JOINED] = field(default_factory=ModelOptions)
    workers: Annotated[WorkerOptions, JOINED] = field(default_factory=WorkerOptions)
    node_labels: tuple[str, ...] = ()
    """Run the model workers only on machines with these Ray labels: KEY=VALUE, such as ray.io/market-type=on-demand."""
    batch_size: int | None = None
    """Images encoded together; by default what suits the model on a GPU, 1 on a CPU. May change the last digits."""
    limit: int | None = None
    """Label at most this many images, the first of the input."""
    shard: str | None = None
    """I/N: label the I-th of N shares of the input, each into a store of its own below the output, which then opens as
    all of them; for job arrays."""
    shard_images: int = MAX_SHARD_IMAGES
    """Inputs of more than 65,536 images are cut into shards of this many, but for a smaller first one; labelled one
    after the other."""
    head: str | None = None
    """Class head for method classes, from `everymask train classes`, or a shipped one by its name: everyday (nano)."""
    names: str | None = None
    """Names for methods concepts and clip: `cat,dog,background`; background is not labelled. For concepts also
    `animals=cat+dog`, `-toy dog` (competes, and is not labelled), or a .txt file of lines `class: phrase, -phrase`."""
    max_empty: str | None = None
    """Stop with 3 if more images have no mask than this, once a thousand are done: a number, or a percentage."""
    max_cost: float | None = None
    """Stop with 3 if all will cost more, once a thousand are done, at the price that `everymask estimate` was told."""
    save_embeddings: str | None = None
    """Folder or address where method classes keeps its mask embeddings, for `everymask relabel`."""
    recipe: Recipe = "default"
    """paper: masks, thresholds and suppression of method classes as published. An option given beside it wins."""
    addresses: Annotated[AddressOptions, JOINED] = field(default_factory=AddressOptions)
    sources: Annotated[SourceOptions, JOINED] = field(default_factory=SourceOptions)
    labels: Annotated[LabelConfig, JOINED, Without(NAMED)] = field(default_factory=LabelConfig)
    limits: ImageLimits = field(default_factory=ImageLimits)

    def __post_init__(self) -> None:
        labels = self.label_config()
        if canonical_uri(self.input) == canonical_uri(self.store.output):
            raise ConfigurationError(
                f"--output {self.store.output} is the input; labels and previews would lie among the images: choose "
                "another folder"
            )
        check_given(labels.method, head=self.head is not None, names=self.names is not None)
        check_model(labels.method, self.model.model)
        if labels.method != "classes":
            refuse_idle(self, ("recipe",), f"for method {labels.method}")
        refuse_idle(self.labels, METHODS.keys() - {labels.method}, f"for method {labels.method}")
        if self.save_embeddings and self.head is None:
            raise ConfigurationError(f"--save-embeddings is for --method classes; leave it out for {labels.method}")
        if labels.tiles > 1 and self.save_embeddings:
            raise ConfigurationError("mask embeddings are of whole pictures; leave out --tiles or --save-embeddings")
        if self.share() is not None and self.store.update:
            raise ConfigurationError(
                "--update with --shard would leave the corrections of all shares, which lie beside them, as they are; "
                "label the shares into another --output"
            )
        if self.max_empty is not None:
            tolerated(self.max_empty, 1, "max-empty")
        if self.max_cost is not None and not 0 <= self.max_cost < float("inf"):
            raise ConfigurationError(f"max-cost must be an amount; got {self.max_cost}")
        for name in ("batch_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name.replace('_', '-')} must be at least 1; got {value}")
        if not 1 <= self.shard_images <= MAX_SHARD_IMAGES:
            raise ConfigurationError(
                f"shard-images must be from 1 to {MAX_SHARD_IMAGES:,}, the most that a shard may have; got "
                f"{self.shard_images}"
            )

    def share(self) -> Share | None:
        """Which part of the input is labelled; None for all of it."""
        return None if self.shard is None else Share.parse(self.shard)

    def place(self) -> str:
        """Path or address of the store that is written."""
        share = self.share()
        return self.store.output if share is None else share.output(self.store.output)

    def address_policy(self) -> AddressPolicy:
        """What is opened of the addresses that the input names."""
        options = self.addresses
        return AddressPolicy.for_input(self.input, options.local_root, options.allow_private_networks)

    def label_config(self) -> LabelConfig:
        """What the library is asked to do."""
        return self.labels if self.names is None else with_names(self.labels, self.names)


@dataclass(frozen=True)
class RelabelConfig:
    """Label images once more, from mask embeddings that `everymask label --save-embeddings` has kept."""

    embeddings: str
    """Folder or address of the mask embeddings."""
    head: str
    """Class head, from `everymask train classes`, or a shipped one by its name: everyday (nano)."""
    store: Annotated[StoreOptions, JOINED]
    actors: str = "auto"
    """Workers: N, MIN:MAX (scaled to the work waiting), or auto: as many as the CPUs that are there allow. Set it where
    machines start only when asked for."""
    node_labels: tuple[str, ...] = ()
    """Run the workers only on machines with these Ray labels: KEY=VALUE, such as ray.io/market-type=on-demand."""
    recipe: Recipe = "default"
    """paper: thresholds and suppression as published. An option given beside it wins."""
    min_region_area: int = 0
    """Connected parts and holes of masks under this many pixels are removed; 0 leaves masks as they are."""
    max_region_area: int | None = None
    """Masks of more pixels than this are left out. By default none are."""
    addresses: Annotated[AddressOptions, JOINED] = field(default_factory=AddressOptions)
    classes: Annotated[ClassesConfig, Without(("masks",))] = field(default_factory=ClassesConfig)
    limits: ImageLimits = field(default_factory=ImageLimits)

    def address_policy(self) -> AddressPolicy:
        """What is opened of the images' addresses, for previews."""
        options = self.addresses
        return AddressPolicy.for_input(self.embeddings, options.local_root, options.allow_private_networks)

    def label_config(self) -> LabelConfig:
        """What the library is asked to do."""
        return LabelConfig(
            "classes",
            classes=self.classes,
            min_region_area=self.min_region_area,
            max_region_area=self.max_region_area,
        )


@dataclass(frozen=True)
class EstimateConfig:
    """Label a sample of a collection, and estimate the whole."""

    label: Annotated[LabelDatasetConfig, JOINED, Without(("max_cost",))]
    sample: int = 200
    """Images to label. Their rows count: `everymask label` with the same options continues from there, and compares in
    the end."""
    price_per_gpu_hour: float | None = None
    """Price of one GPU-hour with its share of the machine; the estimate then includes the cost."""
    spot_price_per_gpu_hour: float | None = None
    """The same on spot machines (nodes with Ray's label ray.io/market-type=spot)."""

    def __post_init__(self) -> None:
        if self.label.store.update:
            raise ConfigurationError(
                "an estimate keeps what it labels beside the former labels; leave --update out, and give another "
                "--output"
            )
        if self.sample < MIN_IMAGES:
            raise ConfigurationError(f"an estimate needs a sample of at least {MIN_IMAGES}; got {self.sample}")
        parse_prices(self.price_per_gpu_hour, self.spot_price_per_gpu_hour)


PAPER_THRESHOLDS = below("classes", PAPER_CLASSES)
"""What `--recipe paper` stands for where masks are chosen and named."""
RECIPES = {"recipe": {"paper": {**PAPER_THRESHOLDS, **below("classes.masks", PAPER_MASKS)}}}
"""What it stands for where masks are made, too."""

_STORE = ("retry_failed", "update", "overwrite", "verify", "max_errors", "previews")
GROUPS: Mapping[str, Sequence[str]] = {
    "input and output": ("input", "output", "limit", *_STORE),
    "method": ("method", "head", "names", "min_region_area", "max_region_area", "tiles", "save_embeddings"),
    "model": ("model", "checkpoint", "device"),
    "resources": ("actors", "gpus_per_actor", "node_labels", "batch_size"),
    "limits": ("limits.max_bytes", "limits.max_pixels"),
}
"""The settings in the help of `label`: at most 25."""
