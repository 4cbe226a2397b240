"""The Ray Data pipeline: manifest → bytes → labels → parts of the label store."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import ray
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data_jobs.labelling.guard import Guard, summary_of
from data_jobs.labelling.ledger import Ledger, Progress, RemoteLedger
from data_jobs.labelling.manifests import Manifest
from data_jobs.labelling.model_spec import ModelFacts, ModelSpec
from data_jobs.labelling.stages import LabellerStage, load_and_tell, read_pending, write_and_tell
from data_jobs.labelling.totals import Totals
from data_jobs.runtime.actors import READ_CPUS, WRITE_CPUS, Actors
from data_jobs.runtime.machines import Machines
from data_jobs.runtime.ray_data import prepare_ray_data, progress_line, rows_of
from everymask.files.addresses import AddressPolicy
from everymask.labels.store import LabelStore, PartSummary

_MAX_ROWS_PER_TASK = 32
_TASKS_PER_ACTOR = 8
_READERS_PER_ACTOR = 0.5
_MIN_READERS = 2
_ROWS_PER_PART = (4, 256)
_PARTS_PER_RUN = 1000
_POLL_SECONDS = 1.0

Tell = Callable[[int, int], None]
"""Gets images finished, and errors among them."""


def rows_per_task(images: int, actors: int) -> int:
    """Images a labeller gets at a time: few enough that all have work, and that a lost worker costs little."""
    return max(1, min(_MAX_ROWS_PER_TASK, images // (_TASKS_PER_ACTOR * actors)))


def rows_per_part(images: int) -> int:
    """Images in one file of the store: a kill loses at most these, and a big run makes no millions of files."""
    fewest, most = _ROWS_PER_PART
    return max(fewest, min(most, images // _PARTS_PER_RUN))


def most_readers(actors: int, tasks: int) -> int:
    """Reading tasks at a time: each needs a process of its own, and one feeds many labellers."""
    return min(tasks, max(_MIN_READERS, math.ceil(_READERS_PER_ACTOR * actors)))


def inspect_model(spec: ModelSpec, actors: Actors, machines: Machines) -> ModelFacts:
    """Load the model once on a worker like the labellers', so that its problems show before anything starts.

    Raises:
        ConfigurationError: no machine for the worker can ever come.
        EverymaskError: (as the cause of Ray's error) as `data_jobs.labelling.labeller.load_model`.
    """
    task = _inspect.options(num_cpus=actors.cpus, num_gpus=actors.gpus, label_selector=dict(actors.labels)).remote(spec)
    facts: ModelFacts = machines.result_of(task)
    return facts


@ray.remote(max_calls=1)  # the memory of the weights goes with the worker process
def _inspect(spec: ModelSpec) -> ModelFacts:
    from data_jobs.labelling.labeller import (
        model_facts,  # on the worker: the driver needs no model code, half a GiB of it
    )

    return model_facts(spec)


def label_pending(
    store: LabelStore,
    pending: Manifest,
    spec: ModelSpec,
    configuration: Mapping[str, Any],
    actors: Actors,
    batch_size: int,
    policy: AddressPolicy,
    guard: Guard,
    totals: Totals,
    shard: int | None = None,
    tell: Tell | None = None,
) -> PartSummary:
    """Label all pending images, of one shard or of none; returns what was added to the store.

    `tell` hears how far it is; by default a line shows it. `totals` hears everything.

    Raises:
        EverymaskError: (possibly as the cause of Ray's error) the weights or the output cannot be used.
        LimitPassed: as `guard`, which sees each part.
    """
    # Pinned to the driver's node: it must survive the loss of workers.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    ledger = (
        ray.remote(Ledger).options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here).remote()
    )
    dataset = _build(store, pending, spec, configuration, actors, batch_size, policy, shard, ledger)
    added = PartSummary()
    with _progress(ledger, pending.images, tell, totals, Machines(actors.worker).news):
        # Keeps the driver in touch with each part as it lands, and holds only its counts.
        for summary in rows_of(dataset):
            added += summary_of(summary)
            totals.add_part(summary)
            guard.add(summary)
    return added


def _build(
    store: LabelStore,
    pending: Manifest,
    spec: ModelSpec,
    configuration: Mapping[str, Any],
    actors: Actors,
    batch_size: int,
    policy: AddressPolicy,
    shard: int | None,
    ledger: Any,
) -> Dataset:
    prepare_ray_data()
    block_rows = rows_per_task(pending.images, actors.maximum)
    actors = actors.asked_at_once(pending.images)
    return (
        # Not read_parquet: that starts 32 processes to read the ends of its files, however few those are.
        ray.data.from_items([{"path": file.path} for file in pending.locations()], override_num_blocks=pending.files)
        .map_batches(
            read_pending,  # type: ignore[arg-type]  # Ray's hints know no fn_kwargs
            fn_kwargs={"store": store},
            batch_size=None,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(size=min(_MIN_READERS, pending.files)),
            num_cpus=READ_CPUS,
        )
        .repartition(target_num_rows_per_block=block_rows)
        .map_batches(
            load_and_tell,  # type: ignore[arg-type]
            fn_kwargs={"limits": spec.limits, "policy": policy, "ledger": RemoteLedger(ledger)},
            batch_size=None,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(size=most_readers(actors.maximum, math.ceil(pending.images / block_rows))),
            num_cpus=READ_CPUS,
        )
        .map_batches(
            LabellerStage,
            fn_constructor_kwargs={"spec": spec, "ledger": RemoteLedger(ledger), "together": batch_size},
            batch_size=block_rows,  # the labeller has several of a block's images in work at once
            batch_format="pyarrow",
            compute=_labellers(actors),
            num_cpus=actors.cpus,
            num_gpus=actors.gpus,
            label_selector=dict(actors.labels),
        )
        .map_batches(
            write_and_tell,  # type: ignore[arg-type]
            fn_kwargs={
                "store": store,
                "configuration": configuration,
                "shard": shard,
                "ledger": RemoteLedger(ledger),
            },
            batch_size=rows_per_part(pending.images),
            batch_format="pyarrow",
            num_cpus=WRITE_CPUS,
        )
    )


def _labellers(actors: Actors) -> ActorPoolStrategy:
    """On a GPU a labeller takes two blocks at once: it starts the next one's images before the last one is done."""
    blocks = 2 if actors.gpus else 1
    return ActorPoolStrategy(
        min_size=actors.minimum,
        max_size=actors.maximum,
        max_tasks_in_flight_per_actor=blocks + 1,
        max_concurrent_calls_per_actor=blocks,
        enable_true_multi_threading=blocks > 1,
    )


@contextmanager
def _progress(ledger: Any, total: int, tell: Tell | None, totals: Totals, news: Callable[[], str]) -> Iterator[None]:
    """Tell how far it is beside the loop that waits for parts, and count what the ledger has heard in the end."""
    done = threading.Event()
    totals.metrics.begin()

    with nullcontext() if tell else progress_line(total, "labelled", news) as line:
        tell_of = tell or (line.update if line else None)
        assert tell_of is not None

        def hear() -> Progress:
            with suppress(ray.exceptions.RayError):  # while the ledger is being restarted the line may wait
                now: Progress = ray.get(ledger.progress.remote())
                totals.metrics.progressed(now, max(total - now.images - now.in_work, 0))
                tell_of(now.images, now.failed)
                return now
            return Progress()

        def watch() -> None:
            while not done.is_set():
                hear()
                done.wait(_POLL_SECONDS)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            totals.add_ledger(hear())
