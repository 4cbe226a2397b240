"""Mask embeddings of exemplars, made once with Ray Data and kept as Parquet."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy

from data_jobs.labelling.stages import load_bytes
from data_jobs.runtime.actors import READ_CPUS, Actors
from data_jobs.runtime.ray_data import prepare_ray_data, progress_line, rows_of
from everymask.backbone.embedding import embed_images
from everymask.backbone.models import PrecisionSetting
from everymask.backbone.protocol import ImageEmbedding
from everymask.backbone.registry import load_backbone
from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.embeddings import (
    OCCUPANCY_SIDE,
    MaskEmbeddings,
    StoredEmbeddings,
    open_embeddings,
    write_embeddings,
)
from everymask.classes.exemplars.manifest import Exemplar
from everymask.classes.features import MaskFeatures
from everymask.classes.segmenter import describe_masks
from everymask.errors import ConfigurationError, InputError, ModelOutputError
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits, decode_image

ROWS_PER_SHARD = 32
"""Images in one file of a store, the most that a kill loses."""

OUTCOME_SCHEMA = pa.schema([("image_id", pa.string()), ("error", pa.string())])


@dataclass(frozen=True)
class BagSpec:
    """How every worker describes the masks of exemplars."""

    model: str
    checkpoint: str | None
    device: str
    masks: MaskConfig
    threads: int
    directory: str
    precision: PrecisionSetting = "auto"


class DescribeExemplars:
    """A stage that describes pictures' masks and writes them as a shard. Raises as `load_backbone`."""

    def __init__(self, spec: BagSpec) -> None:
        torch.set_num_threads(spec.threads)
        self._spec = spec
        self._backbone = load_backbone(spec.model, spec.checkpoint, spec.device, spec.precision)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Rows with bytes, from `load_bytes` → `OUTCOME_SCHEMA`, once the shard is written."""
        records, outcomes = [], []
        for row in batch.to_pylist():
            embeddings, error = self._describe(row["data"], row["error"])
            records.append(StoredEmbeddings(row["image_id"], row["uri"], row["content_sha256"] or "", embeddings))
            outcomes.append({"image_id": row["image_id"], "error": error})
        write_embeddings(self._spec.directory, records, self._spec.masks)
        return pa.Table.from_pylist(outcomes, schema=OUTCOME_SCHEMA)

    def _describe(self, data: bytes | None, error: str | None) -> tuple[MaskEmbeddings, str | None]:
        """One picture's masks; none, with the reason, if it is unreadable or the model fails on it."""
        try:
            if data is None:
                raise InputError(error or "no bytes")
            (embedding,) = embed_images(self._backbone, [decode_image(data)], keep_picture=True)
            if not isinstance(embedding, ImageEmbedding):
                raise embedding
            return describe_masks(self._backbone, embedding, ClassesConfig(masks=self._spec.masks)), None
        except (InputError, ModelOutputError) as reason:
            return self._nothing(), str(reason)

    def _nothing(self) -> MaskEmbeddings:
        scores = np.zeros(0, dtype=np.float32)
        return MaskEmbeddings(
            size_hw=(1, 1),
            features=MaskFeatures(*(np.zeros((0, 0), dtype=np.float16) for _ in range(3))),
            predicted_iou=scores,
            stability_score=scores,
            frame_share=scores,
            occupancy=np.zeros((0, OCCUPANCY_SIDE**2), dtype=np.uint8),
            point_coords=np.zeros((0, 2), dtype=np.float32),
            rles=(),
            backbone=self._backbone.name,
            weights_sha256=self._backbone.weights_sha256,
        )


def pending_exemplars(exemplars: Sequence[Exemplar], directory: str, masks: MaskConfig) -> list[Exemplar]:
    """The exemplars whose masks are not in the store yet.

    Raises:
        ConfigurationError: the store was made with other mask settings.
        InputError: a shard of the store is damaged.
    """
    try:
        shards, made_with = open_embeddings(directory)
    except ConfigurationError:
        return list(exemplars)
    if replace(made_with, points_per_batch=masks.points_per_batch) != masks:
        raise ConfigurationError(
            f"{directory} holds masks made with {made_with}, not {masks}; name another folder with --bags"
        )
    known = {image_id for shard in shards for image_id in shard.image_ids}
    return [item for item in exemplars if item.bag_id not in known]


def embed_exemplars(exemplars: Sequence[Exemplar], folder: str | Path, spec: BagSpec, actors: Actors) -> None:
    """Describe the masks of exemplars in `folder` and add them to the store; a kill loses little.

    Raises:
        EverymaskError: (possibly as the cause of Ray's error) the weights or the store cannot be used.
    """
    actors = actors.asked_at_once(len(exemplars))
    prepare_ray_data()
    rows = pa.table(
        {
            "image_id": [item.bag_id for item in exemplars],
            "uri": [str((Path(folder) / item.file).absolute()) for item in exemplars],
        }
    )
    rows_per_task = max(1, min(ROWS_PER_SHARD, len(exemplars) // (4 * actors.maximum)))
    outcomes = (
        ray.data.from_arrow(rows)
        .repartition(target_num_rows_per_block=rows_per_task)
        .map_batches(
            partial(load_bytes, limits=ImageLimits(), policy=AddressPolicy((str(folder),))),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=READ_CPUS,
        )
        .map_batches(
            DescribeExemplars,
            fn_constructor_kwargs={"spec": spec},
            batch_size=rows_per_task,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=actors.minimum, max_size=actors.maximum, max_tasks_in_flight_per_actor=2
            ),
            num_cpus=actors.cpus,
            num_gpus=actors.gpus,
        )
    )
    finished, failed = 0, 0
    with progress_line(len(exemplars), "described") as line:
        for outcome in rows_of(outcomes):
            finished += 1
            if outcome["error"] is not None:
                failed += 1
                print(f"{outcome['image_id']} is left out: {outcome['error']}", file=sys.stderr)
            line.update(finished, failed)
