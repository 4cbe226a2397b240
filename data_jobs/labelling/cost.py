"""A run's cost while it goes on: its workers' GPUs, at the price that the output's estimate was told."""

from __future__ import annotations

from dataclasses import dataclass

from data_jobs.labelling.estimate import gpu_hour_price
from everymask.errors import ConfigurationError
from everymask.labels.store import LabelStore


@dataclass(frozen=True)
class CostLimit:
    """The most that a store's labels may cost.

    Attributes:
        most: in the currency of the price.
        per_second: price of a worker's second.
        before_s: seconds of workers in the rows that are there.
    """

    most: float
    per_second: float
    before_s: float = 0.0

    @classmethod
    def of(cls, most: float | None, store: LabelStore, priced: LabelStore, gpus_per_worker: float) -> CostLimit | None:
        """The limit for a run, None for none.

        Args:
            most: as the user gave it.
            store: the output; its rows count.
            priced: the store with the estimate.
            gpus_per_worker: 0 on the CPU.

        Raises:
            ConfigurationError: there is no price, or the workers have no GPU.
        """
        if most is None:
            return None
        price = gpu_hour_price(priced)
        if price is None or not gpus_per_worker:
            lacks = (
                "no worker of this run has a GPU" if not gpus_per_worker else "the output has no price of a GPU-hour"
            )
            raise ConfigurationError(
                f"--max-cost was given, but {lacks}; leave it out, or first run `everymask estimate` with the same "
                "options, --gpus-per-actor and --price-per-gpu-hour"
            )
        return cls(most, price * gpus_per_worker / 3600, store.summary().seconds)

    def estimate(self, images: int, seconds: float, left: int) -> float:
        """The cost of all.

        Args:
            images: that this attempt has labelled, at least 1.
            seconds: of its workers for them.
            left: images that are still to be labelled.
        """
        return (self.before_s + seconds + left * seconds / images) * self.per_second
