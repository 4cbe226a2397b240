"""For a run's estimate: the price of a GPU-hour, and the share of GPUs that the cloud may take away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_jobs.runtime.scheduling import Node
from everymask.errors import ConfigurationError

_MARKET, _SPOT = "ray.io/market-type", "spot"


@dataclass(frozen=True)
class Prices:
    """Prices of one GPU with its share of the machine, in any currency.

    Attributes:
        per_gpu_hour: on demand.
        spot_per_gpu_hour: on a spot machine; None for the same.
    """

    per_gpu_hour: float
    spot_per_gpu_hour: float | None = None

    def mean(self, spot_share: float) -> float:
        """The price per GPU-hour if this share of the GPUs (0 to 1) is on spot machines."""
        spot = self.per_gpu_hour if self.spot_per_gpu_hour is None else self.spot_per_gpu_hour
        return spot * spot_share + self.per_gpu_hour * (1 - spot_share)


def parse_prices(per_gpu_hour: float | None, spot_per_gpu_hour: float | None) -> Prices | None:
    """Prices as given on the command line, None for none.

    Raises:
        ConfigurationError: negative, or that of spot machines alone.
    """
    for name, price in (("price-per-gpu-hour", per_gpu_hour), ("spot-price-per-gpu-hour", spot_per_gpu_hour)):
        if price is not None and not 0 <= price < float("inf"):
            raise ConfigurationError(f"{name} must be a price; got {price}")
    if per_gpu_hour is None:
        if spot_per_gpu_hour is not None:
            raise ConfigurationError("spot-price-per-gpu-hour goes with --price-per-gpu-hour; give both")
        return None
    return Prices(per_gpu_hour, spot_per_gpu_hour)


def spot_share(nodes: Sequence[Node], labels: Mapping[str, str]) -> float:
    """Share of the GPUs, 0 to 1, on spot machines, by Ray's label `ray.io/market-type`; 0 where there is no GPU.

    Args:
        nodes: the cluster's nodes.
        labels: labels of the nodes that count.
    """
    counted = [node for node in nodes if all(node.labels.get(key) == value for key, value in labels.items())]
    gpus = sum(node.gpus for node in counted)
    return sum(node.gpus for node in counted if node.labels.get(_MARKET) == _SPOT) / gpus if gpus else 0.0
