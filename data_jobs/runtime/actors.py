"""The job's Ray, and how its stages share CPUs and GPUs."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import ray

from data_jobs.runtime.exit_codes import end_on_sigterm
from data_jobs.runtime.hidden_lines import HARMLESS, hide_lines
from data_jobs.runtime.object_store import MAX_OBJECT_STORE_BYTES
from data_jobs.runtime.scheduling import Demand, alive_nodes, autoscaler_is_there, most_workers_beside
from data_jobs.runtime.waiting import waiting
from everymask.backbone.models import find_model
from everymask.cores import usable_cores
from everymask.errors import ConfigurationError

# Reading and writing wait for disks and networks most of the time.
READ_CPUS = 0.25
WRITE_CPUS = 0.25
_REPARTITION_CPUS = 1.0  # Ray Data's own choice for its short tasks that cut the manifest into blocks
_GPU_LABELLER_CPUS = 0.5
_MIN_LABELLER_CPUS = 0.05
_IMAGES_WORTH_A_MODEL = 128  # our choice: one to four minutes of an A10G, by the model


def connect() -> None:
    """Join this process's cluster (`ray job submit`, RAY_ADDRESS), or start one that ends with the process.

    Raises:
        ConfigurationError: RAY_ADDRESS names a cluster that cannot be reached.
    """
    if ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        try:
            with waiting("joining the Ray cluster"):
                ray.init(logging_level=logging.WARNING)
            hide_lines(HARMLESS)
        except ConnectionError as error:
            raise ConfigurationError(
                f"no Ray cluster answers at RAY_ADDRESS={os.environ['RAY_ADDRESS']}; start it, or unset RAY_ADDRESS"
            ) from error
        end_on_sigterm()
        return
    # A token that some other tool left in the home folder must not lock this private cluster.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with waiting("starting Ray on this machine"):
        ray.init(
            address="local",
            # Beyond the cores, room for the stages that only wait: a machine with one core must not starve them.
            num_cpus=usable_cores() + 2,
            object_store_memory=min(memory // 5, MAX_OBJECT_STORE_BYTES),
            include_dashboard=False,
            logging_level=logging.WARNING,
        )
    hide_lines(HARMLESS)
    end_on_sigterm()


@dataclass(frozen=True)
class Footprint:
    """Busy cores and bytes of memory of one worker on a machine without a GPU."""

    cores: int
    memory_bytes: int

    @classmethod
    def of_model(cls, name: str) -> Footprint:
        """The footprint of a model's labelling worker; ConfigurationError if the model is unknown."""
        row = find_model(name)
        return cls(row.worker_cores, row.worker_memory_bytes)


@dataclass(frozen=True)
class Actors:
    """How the labellers are run.

    Attributes:
        minimum: fewest labellers.
        maximum: most of them, reached while work is waiting.
        gpus: share of a GPU for each, 0 for CPU only.
        cpus: logical CPUs for each.
        threads: torch threads of each.
        labels: labels of the nodes they may run on.
    """

    minimum: int
    maximum: int
    gpus: float
    cpus: float
    threads: int
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def worker(self) -> Demand:
        """What one labeller needs."""
        return Demand("labelling", self.cpus, self.gpus, 1, self.labels)

    def asked_at_once(self, images: int, worth_a_worker: int = _IMAGES_WORTH_A_MODEL) -> Actors:
        """The same for a run of so many images; on a cluster that grows, at least as many as `workers_at_once` says."""
        return replace(self, minimum=workers_at_once(images, self, worth_a_worker)) if autoscaler_is_there() else self

    def demands(self) -> list[Demand]:
        """What must run at the same time for the job to proceed."""
        return [
            replace(self.worker, workers=self.minimum),
            Demand("cutting the list of images", _REPARTITION_CPUS),
            Demand("reading", READ_CPUS),
            Demand("writing", WRITE_CPUS),
        ]


def workers_at_once(images: int, actors: Actors, worth_a_worker: int = _IMAGES_WORTH_A_MODEL) -> int:
    """Workers that are asked for at once, and not one after another as the first ones turn out to be busy.

    A machine comes for each of them, which takes minutes and is paid for: it must have work for as long, which
    `worth_a_worker` images are.
    """
    return max(actors.minimum, min(actors.maximum, images // worth_a_worker))


def plan_actors(
    actors: str, gpus_per_actor: float | None, footprint: Footprint, labels: Mapping[str, str] | None = None
) -> Actors:
    """Fit the labellers into the running cluster.

    Args:
        actors: `auto`, `N` or `MIN:MAX`.
        gpus_per_actor: None for 1 if the cluster has a GPU now, else 0.
        footprint: of a worker on a CPU.
        labels: labels of the nodes they may run on.

    Raises:
        ConfigurationError: malformed, or the cluster has too few CPUs.
    """
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus_there, cpus_there = resources.get("GPU", 0.0), resources.get("CPU", 0.0)
    gpus = gpus_per_actor if gpus_per_actor is not None else float(gpus_there > 0)
    if gpus < 0:
        raise ConfigurationError(f"gpus-per-actor must not be negative; got {gpus}")
    if actors == "auto":
        minimum, maximum = 1, _default_maximum(gpus, gpus_there, cpus_there, resources.get("memory", 0.0), footprint)
    else:
        minimum, maximum = parse_actors(actors)
    if gpus:
        return Actors(minimum, maximum, gpus, _GPU_LABELLER_CPUS, threads=1, labels=labels or {})
    return _beside_readers(Actors(minimum, maximum, 0.0, *_cpu_share(cpus_there, maximum), labels or {}))


def _beside_readers(actors: Actors) -> Actors:
    """Cap the labellers so that some node always keeps a free CPU."""
    nodes = [node for node in alive_nodes() if node.cpus]
    most = most_workers_beside(nodes, Demand("labelling", actors.cpus, labels=actors.labels), _REPARTITION_CPUS)
    if not nodes or most is None or most >= actors.maximum:
        return actors
    if most < actors.minimum:
        raise ConfigurationError(
            f"{actors.minimum} actors could take every machine's last whole CPU, which reading needs, on machines of "
            f"{' and '.join(sorted({f'{node.cpus:g}' for node in nodes}))} CPUs; give at most {most} --actors"
        )
    return replace(actors, maximum=most)


def parse_actors(actors: str) -> tuple[int, int]:
    """`N` or `MIN:MAX` as (minimum, maximum); ConfigurationError unless 1 <= MIN <= MAX."""
    match = re.fullmatch(r"(\d+)(?::(\d+))?", actors)
    if match is None:
        raise ConfigurationError(f"actors must be N, MIN:MAX or auto; got {actors!r}")
    minimum, maximum = int(match[1]), int(match[2] or match[1])
    if not 1 <= minimum <= maximum:
        raise ConfigurationError(f"actors must be at least 1, and MIN at most MAX; got {actors!r}")
    return minimum, maximum


def _default_maximum(gpus: float, gpus_there: float, cpus_there: float, memory: float, footprint: Footprint) -> int:
    if gpus:
        return max(1, int(gpus_there / gpus))
    cores = max(1, int(cpus_there) - 2)
    return max(1, min(cores // footprint.cores, int(memory / footprint.memory_bytes)))


def _cpu_share(cpus_there: float, actors: int) -> tuple[float, int]:
    """Logical CPUs and torch threads of each of `actors` labellers."""
    left = cpus_there - _REPARTITION_CPUS - READ_CPUS - WRITE_CPUS
    if cpus_there == 0:  # a head node that runs no tasks; workers are yet to come
        return 1.0, 1
    share = min(1.0, left / actors)
    if share < _MIN_LABELLER_CPUS:
        raise ConfigurationError(
            f"{actors} actors do not fit into {cpus_there:g} CPUs beside reading and writing; give fewer --actors, or "
            "start Ray with more CPUs"
        )
    return share, max(1, int((cpus_there - 2) // actors))
