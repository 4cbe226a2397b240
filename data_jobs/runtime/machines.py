"""Says which machines a job waits for, and ends the wait for those that can never come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray

from data_jobs.runtime.progress import format_duration
from data_jobs.runtime.ray_internals import AutoscalerState, autoscaler_state
from data_jobs.runtime.scheduling import Demand, alive_nodes
from everymask.errors import ConfigurationError

_MAX_REASON = 160
_POLL_S = 1.0
_REFUSALS = 2
"""Looks in a row at which a request must be refused: the first may be of a state between two others."""


class Machines:
    """Watches the autoscaler while a job waits for machines; says nothing where there is none.

    Args:
        demand: what must find a place.
        look: what the autoscaler says now.
        clock: seconds.
    """

    def __init__(
        self,
        demand: Demand,
        look: Callable[[], AutoscalerState | None] = autoscaler_state,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._demand = demand
        self._look = look
        self._clock = clock
        self._since: dict[tuple[str, str], float] = {}
        self._refusals = 0

    def news(self) -> str:
        """`1 × gpu_spot asked for since 2 min 05 s`, and why launches failed; empty if no machine is awaited."""
        state = self._look()
        if state is None:
            return ""
        waited = [("asked for", name, count) for name, count in sorted(state.asked.items())]
        waited += [("starting", name, count) for name, count in sorted(state.starting.items())]
        now = self._clock()
        self._since = {(what, name): self._since.get((what, name), now) for what, name, _ in waited}
        parts = [
            f"{count} × {name} {what} since {format_duration(now - self._since[what, name])}"
            for what, name, count in waited
        ]
        # The last reason of each type: a cloud that is asked again and again gives the same one.
        for name, reason in dict(state.failed).items():
            told = " ".join(reason.split())[:_MAX_REASON] or "the cloud gave no reason"
            parts.append(f"{name} could not be had: {told}")
        if self._is_refused(state):
            parts.append(f"the autoscaler can add no machine with {self._demand}")
        return "; ".join(parts)

    def beside(self, words: str) -> str:
        """These words about what is done, with the news behind them, if any."""
        return f"{words} ({news})" if (news := self.news()) else words

    def result_of(self, task: ray.ObjectRef[Any]) -> Any:
        """What a task of the demand's size returns, once a machine has come for it. Raises as `check`, and as it."""
        try:
            while not ray.wait([task], timeout=_POLL_S)[0]:
                self.check()
        except ConfigurationError:
            ray.cancel(task)
            raise
        return ray.get(task)

    def await_one(self) -> None:
        """Wait until one worker would find a place. Raises as `check`."""
        demand = self._demand
        place = _take_place.options(num_cpus=demand.cpus, num_gpus=demand.gpus, label_selector=dict(demand.labels))
        self.result_of(place.remote())

    def check(self) -> None:
        """Raises ConfigurationError if the autoscaler says that no machine it may add can ever run the demand.

        A machine that is there and could run it is waited for, whoever uses it now.
        """
        state = self._look()
        self._refusals = self._refusals + 1 if state is not None and self._is_refused(state) else 0
        if self._refusals >= _REFUSALS and not any(node.runs(self._demand) for node in alive_nodes()):
            raise ConfigurationError(
                "this cluster cannot run the job, not even with every node its autoscaler may add: "
                f"{self._demand.stage} needs {self._demand}, and no node type has that"
            )

    def _is_refused(self, state: AutoscalerState) -> bool:
        demand = self._demand
        return any(
            labels == dict(demand.labels)
            and resources.get("CPU", 0.0) == demand.cpus
            and resources.get("GPU", 0.0) == demand.gpus
            for resources, labels in state.refused
        )


@ray.remote
def _take_place() -> None:
    """Needs what a worker needs, and does nothing."""
