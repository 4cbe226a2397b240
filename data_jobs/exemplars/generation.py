"""Exemplars from a text-to-image model, with Ray Data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ray
from ray.data import ActorPoolStrategy

from data_jobs.runtime.actors import Actors
from data_jobs.runtime.ray_data import prepare_ray_data, progress_line, rows_of
from everymask.classes.exemplars.diffusion import DiffusionConfig, PictureGenerator
from everymask.classes.exemplars.manifest import Origin


def generate(
    planned: list[Origin], config: DiffusionConfig, device: str, actors: Actors
) -> Iterator[tuple[int, bytes]]:
    """Make planned pictures with Ray Data; yields (index into `planned`, JPEG file) in order, as they are ready.

    Raises:
        EverymaskError: (as the cause of Ray's error) the model cannot be loaded, or does not fit into memory.
    """
    actors = actors.asked_at_once(len(planned))
    prepare_ray_data(preserve_order=True)
    rows = [{"number": number, "prompt": origin.prompt, "seed": origin.seed} for number, origin in enumerate(planned)]
    pictures = (
        ray.data.from_items(rows)
        .repartition(target_num_rows_per_block=config.batch_size)
        .map_batches(
            GeneratePictures,
            fn_constructor_kwargs={"config": config, "device": device},
            batch_size=config.batch_size,
            compute=ActorPoolStrategy(min_size=actors.minimum, max_size=actors.maximum),
            num_gpus=actors.gpus,
            num_cpus=actors.cpus,
        )
    )
    with progress_line(len(planned), "made") as line:
        for finished, row in enumerate(rows_of(pictures), start=1):
            line.update(finished, 0)
            yield int(row["number"]), row["data"]


class GeneratePictures:
    """A stage that makes pictures. Each worker loads the model once; raises as `PictureGenerator`."""

    def __init__(self, config: DiffusionConfig, device: str) -> None:
        self._generator = PictureGenerator(config, device)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """number, prompt, seed → number, data."""
        data = self._generator([str(prompt) for prompt in batch["prompt"]], [int(seed) for seed in batch["seed"]])
        return {"number": batch["number"], "data": data}
