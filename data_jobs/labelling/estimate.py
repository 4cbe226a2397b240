"""The cost of labelling a whole collection, estimated from a sample and compared with the finished run.

The sample is stratified by the order of the listing, which goes folder by folder: the listing is cut into as many runs
as images are to be tried, and one image is drawn from each run. Dealt in turn into groups, the images give one
independent answer per group; the spread of these answers gives the uncertainty (the method of random groups).
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev

import pyarrow.dataset as pds
from scipy.special import stdtrit

from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import ImageRef
from data_jobs.labelling.manifests import to_ref
from data_jobs.labelling.prices import Prices, spot_share
from data_jobs.labelling.resume import Pending, write_pending
from data_jobs.runtime.actors import Actors
from data_jobs.runtime.progress import format_duration
from data_jobs.runtime.scheduling import alive_nodes
from everymask.files.json_text import parse_json
from everymask.labels.store import LabelStore, PartSummary
from everymask.wording import counted

MIN_IMAGES = 4
"""The smallest sample: two groups of two."""

_MAX_GROUPS = 10
_IMAGES_PER_GROUP = 2
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a run.

    Attributes:
        images: of the whole run, including the sample.
        sampled: images labelled for the estimate.
        seconds_per_image: one worker's time for one image, decoding included.
        margin_s: half the width of the 95 % confidence interval of `seconds_per_image`.
        workers: the number that the cluster has room for.
        gpus_per_worker: 0 on the CPU.
        startup_s: time besides labelling, mostly until the workers have loaded the model.
        spot_share: share of spot GPUs in the cluster during the sample, 0 to 1.
        prices: of a GPU; None if none were given.
    """

    images: int
    sampled: int
    seconds_per_image: float
    margin_s: float
    workers: int
    gpus_per_worker: float
    startup_s: float
    spot_share: float = 0.0
    prices: Prices | None = None

    def wall_s(self, images: int | None = None) -> float:
        """Seconds until `images` (default: all) are labelled with all workers busy, start included."""
        return self.startup_s + self._worker_seconds(images) / self.workers

    def wall_margin_s(self, images: int | None = None) -> float:
        """Half the width of the 95 % interval of `wall_s`."""
        return self._worker_seconds(images) / self.workers * self.margin_s / self.seconds_per_image

    def _worker_seconds(self, images: int | None) -> float:
        return (self.images if images is None else images) * self.seconds_per_image

    def report(self) -> str:
        """The lines to print."""
        share = self.margin_s / self.seconds_per_image
        rate = 1 / self.seconds_per_image
        place, per_place = ("worker", rate) if not self.gpus_per_worker else ("GPU", rate / self.gpus_per_worker)
        workers = counted(self.workers, "worker")
        figures = [
            (f"images/s per {place}", f"{per_place:.3g} ± {per_place * share:.2g}"),
            (f"images/s, {workers}", f"{rate * self.workers:.3g} ± {rate * self.workers * share:.2g}"),
        ]
        if self.gpus_per_worker:
            hours = self._worker_seconds(None) * self.gpus_per_worker / 3600
            figures.append(("GPU-hours", f"{hours:.3g} ± {hours * share:.2g}"))
            figures.append(("GPUs on spot machines", f"{self.spot_share:.0%}"))
        if self.prices is not None:
            figures.append(("cost", self._cost(self.prices)))
        times = [format_duration(seconds) for seconds in (self.wall_s(), self.wall_margin_s(), self.startup_s)]
        figures.append(("time for all", "{} ± {}, {} of it beside labelling".format(*times)))
        lines = [f"estimate from {self.sampled:,} of {counted(self.images, 'image')}, ± is the 95 % interval"]
        lines += [f"  {name:<24}{value}" for name, value in figures]
        return "\n".join(lines)

    def _cost(self, prices: Prices) -> str:
        """All GPUs are paid for from the start of the run to its end."""
        hourly = prices.mean(self.spot_share)
        per_second = hourly * self.workers * self.gpus_per_worker / 3600
        cost, margin = per_second * self.wall_s(), per_second * self.wall_margin_s()
        return f"{cost:.3g} ± {margin:.2g}, at {hourly:.3g} for a GPU-hour"

    def compare(self, images: int, worker_s: float, wall_s: float) -> str:
        """One line that compares a finished run with the estimate.

        Args:
            images: labelled by the run.
            worker_s: its workers' time for them, summed.
            wall_s: duration of the run.
        """
        fact = worker_s / images
        return (
            f"estimated {format_duration(self.wall_s(images))} ± {format_duration(self.wall_margin_s(images))} "
            f"({self.seconds_per_image:.3g} ± {self.margin_s:.2g} s an image), took {format_duration(wall_s)} "
            f"({fact:.3g} s an image, {fact / self.seconds_per_image - 1:+.0%})"
        )


def sample_positions(population: int, size: int, seed: int = 0) -> list[list[int]]:
    """Positions in the listing of the images to try: a list for each group, none twice.

    Args:
        population: images in the listing, at least 1.
        size: images to try, at least 1; all if there are fewer.
        seed: seeds the draws.
    """
    size = min(size, population)
    generator = random.Random(seed)
    drawn = [generator.randrange(run * population // size, (run + 1) * population // size) for run in range(size)]
    groups = max(1, min(_MAX_GROUPS, size // _IMAGES_PER_GROUP))
    return [drawn[group::groups] for group in range(groups)]


@dataclass(frozen=True)
class Sample:
    """The images to try.

    Attributes:
        groups: the images, in groups that each stand for the collection.
        pending: their manifest, which has replaced the whole one.
        population: images the sample was drawn from.
    """

    groups: tuple[tuple[ImageRef, ...], ...]
    pending: Pending
    population: int

    def estimate(
        self, store: LabelStore, added: PartSummary, wall_s: float, actors: Actors, prices: Prices | None = None
    ) -> Estimate:
        """The cost of the whole run.

        Args:
            store: where the sample's rows are.
            added: result of labelling the sample.
            wall_s: its duration.
            actors: workers of the whole run.
            prices: of a GPU.
        """
        busy = min(actors.maximum, self.pending.images)
        startup_s = max(wall_s - added.seconds / busy, 0.0)
        means_s = seconds_of(store, self.groups)
        found = estimate(means_s, self.population, self.pending.images, actors, startup_s)
        return replace(found, spot_share=spot_share(alive_nodes(), actors.labels), prices=prices)


def draw_sample(store: LabelStore, pending: Pending, size: int) -> Sample:
    """Choose the images to try, and replace the manifest by theirs.

    Raises:
        OutputError: the store is not writable.
    """
    groups = select(pending, sample_positions(pending.images, size))
    return Sample(groups, write_pending(store, itertools.chain(*groups), IdSet()), pending.images)


def select(pending: Pending, positions: Sequence[Sequence[int]]) -> tuple[tuple[ImageRef, ...], ...]:
    """The images at those positions of the pending manifest."""
    folder = pending.manifest.folder
    dataset = pds.dataset(folder.path, format="parquet", filesystem=folder.filesystem)
    flat = sorted(itertools.chain(*positions))
    rows = dict(zip(flat, dataset.take(flat).to_pylist(), strict=True))
    return tuple(tuple(to_ref(rows[position]) for position in group) for group in positions)


def seconds_of(store: LabelStore, groups: Sequence[Sequence[ImageRef]]) -> list[float]:
    """Mean seconds per image of each group, from the store; failed images count too."""
    wanted = {image.image_id for image in itertools.chain(*groups)}
    seconds: dict[str, float] = {}
    for batch in store.batches(columns=["image_id", "seconds"], batch_size=8192):
        for image_id, spent in zip(batch["image_id"].to_pylist(), batch["seconds"].to_pylist(), strict=True):
            if image_id in wanted:
                seconds[image_id] = spent
    return [fmean(seconds[image.image_id] for image in group) for group in groups]


def estimate(means_s: Sequence[float], images: int, sampled: int, actors: Actors, startup_s: float) -> Estimate:
    """The estimate from the groups' means.

    Args:
        means_s: mean seconds per image of each group; at least two groups unless all images were tried.
        images: of the whole run.
        sampled: in all groups.
        actors: workers of the whole run.
        startup_s: as in `Estimate`.
    """
    mean = max(fmean(means_s), 1e-9)
    margin = 0.0
    if sampled < images:
        unseen = math.sqrt(1 - sampled / images)  # of a finite collection; nothing is left to guess when all were tried
        quantile = float(stdtrit(len(means_s) - 1, 0.5 + _CONFIDENCE / 2))
        margin = quantile * stdev(means_s) / math.sqrt(len(means_s)) * unseen
    return Estimate(images, sampled, mean, margin, actors.maximum, actors.gpus, startup_s)


def save(store: LabelStore, foretold: Estimate) -> None:
    """Keep the estimate in the store, for the end of the run.

    Raises:
        OutputError: the store is not writable.
    """
    store.estimate_file.write((json.dumps(asdict(foretold), indent=2) + "\n").encode())


def load(store: LabelStore) -> Estimate | None:
    """The estimate kept in the store; None if it is missing or makes no sense."""
    if store.estimate_file.kind() != "file":
        return None
    try:
        kept = parse_json(store.estimate_file.read())
        prices = kept.pop("prices", None)
        return Estimate(**kept, prices=prices and Prices(**prices))
    except (ValueError, TypeError, AttributeError):
        return None


def gpu_hour_price(store: LabelStore) -> float | None:
    """The price of a GPU-hour that the store's estimate was told, mixed as its cluster was; None if there is none."""
    foretold = load(store)
    return None if foretold is None or foretold.prices is None else foretold.prices.mean(foretold.spot_share)
