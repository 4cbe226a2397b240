"""Labels from stored mask embeddings and another class head, with Ray Data: no pixels, no backbone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy

from data_jobs.labelling.guard import summary_of
from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.stages import write_part
from data_jobs.runtime.actors import WRITE_CPUS, Actors, Footprint, plan_actors
from data_jobs.runtime.machines import Machines
from data_jobs.runtime.node_types import nodes_of_the_launcher
from data_jobs.runtime.ray_data import prepare_ray_data, progress_line, rows_of
from data_jobs.runtime.scheduling import check_schedulable
from data_jobs.runtime.waiting import waiting
from everymask.classes.embeddings import EmbeddingShard
from everymask.classes.head import load_head
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_masks
from everymask.labels.mask_ids import settings_digest, with_mask_ids
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore, PartSummary

_FOOTPRINT = Footprint(cores=1, memory_bytes=2**30)
IMAGES_WORTH_A_WORKER = 4096  # our choice: a minute of a core or more; it does some 60 images of 50 masks a second


class Relabeller:
    """A stage that labels the images of embedding shards. Each worker loads the head once; raises as `load_head`."""

    def __init__(self, head: str, config: LabelConfig, settings_sha256: str) -> None:
        torch.set_num_threads(1)
        self._head = load_head(head)
        self._config = config
        self._settings_sha256 = settings_sha256

    def __call__(self, batch: pa.Table) -> pa.Table:
        """directory, name, rows, image_ids of shards → rows of the label store.

        Raises:
            InputError: a shard is damaged.
            HeadMismatchError: the head was trained on another backbone or other weights.
        """
        images = []
        for row in batch.to_pylist():
            shard = EmbeddingShard(row["directory"], row["name"], tuple(row["rows"]), tuple(row["image_ids"]))
            for record in shard.read():
                started = time.perf_counter()
                labels = label_masks(record.embeddings, self._config, self._head)
                labels = with_mask_ids(labels, record.content_sha256, self._settings_sha256)
                seconds = time.perf_counter() - started
                images.append(
                    ImageRow(record.image_id, record.uri, labels, None, record.content_sha256 or None, seconds)
                )
        return to_table(images)


def unfinished(shards: Iterable[EmbeddingShard], finished: IdSet) -> list[EmbeddingShard]:
    """The shards, restricted to images without a row; shards without any are left out."""
    pending = []
    for shard in shards:
        open_rows = [
            (row, image_id)
            for row, image_id in zip(shard.rows, shard.image_ids, strict=True)
            if image_id not in finished
        ]
        if open_rows:
            rows, image_ids = zip(*open_rows, strict=True)
            pending.append(replace(shard, rows=rows, image_ids=image_ids))
    return pending


def plan_relabellers(actors: str, labels: Mapping[str, str]) -> Actors:
    """Fit the workers into the running cluster. Raises as `plan_actors`."""
    return plan_actors(actors, 0.0, _FOOTPRINT, labels)


def useful_relabellers(actors: Actors, shards: Sequence[EmbeddingShard]) -> Actors:
    """The same without those for whom there is no shard: a worker takes one at a time."""
    return replace(actors, maximum=max(actors.minimum, min(actors.maximum, len(shards))))


def _images(shards: Sequence[EmbeddingShard]) -> int:
    return sum(len(shard.rows) for shard in shards)


def relabel_pending(
    store: LabelStore,
    shards: Sequence[EmbeddingShard],
    head: str,
    config: LabelConfig,
    configuration: Mapping[str, Any],
    actors: Actors,
) -> PartSummary:
    """Label the images of shards; returns what was added to the store.

    Args:
        store: the label store.
        shards: stored mask embeddings.
        head: file of the class head.
        config: for method classes.
        configuration: the run's, as in run.json.
        actors: from `plan_relabellers`.

    Raises:
        ConfigurationError: the cluster can never hold the workers.
        EverymaskError: (possibly as the cause of Ray's error) the head, a shard or the output cannot be used.
    """
    actors = useful_relabellers(actors, shards).asked_at_once(_images(shards), IMAGES_WORTH_A_WORKER)
    check_schedulable(actors.demands(), nodes_of_the_launcher())
    machines = Machines(actors.worker)
    with waiting(lambda: machines.beside("waiting for a worker")):
        machines.await_one()
    prepare_ray_data()
    rows = [
        {"directory": shard.directory, "name": shard.name, "rows": list(shard.rows), "image_ids": list(shard.image_ids)}
        for shard in shards
    ]
    parts = (
        ray.data.from_arrow(pa.Table.from_pylist(rows))
        .repartition(target_num_rows_per_block=1)
        .map_batches(
            Relabeller,
            fn_constructor_kwargs={
                "head": head,
                "config": config,
                "settings_sha256": settings_digest(configuration),
            },
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=actors.minimum, max_size=actors.maximum),
            num_cpus=actors.cpus,
            label_selector=dict(actors.labels),
        )
        .map_batches(
            partial(write_part, store=store, configuration=configuration),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=WRITE_CPUS,
        )
    )
    added = PartSummary()
    with progress_line(_images(shards), "labelled", machines.news) as line:
        for summary in rows_of(parts):
            added += summary_of(summary)
            line.update(added.images, added.errors)
    return added
