"""An image kills its worker while others are in work: it is found, and they get the labels they always get."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from io import BytesIO
from multiprocessing.connection import Connection
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from PIL import Image

from data_jobs.labelling.labeller import Labeller
from data_jobs.labelling.ledger import MAX_STARTS, Bookkeeper, Ledger
from data_jobs.labelling.model_spec import ModelSpec
from everymask.labels.rows import ImageRow, from_batch
from tests.data_jobs.labelling.read_images import AMG, LIMITS, fail_on_plain_pictures, loaded, png

FORK = multiprocessing.get_context("fork")


class _Manager(BaseManager):
    """A ledger in a process of its own, as Ray keeps it."""


_Manager.register("Ledger", Ledger)


def die_of_plain_pictures(module: torch.nn.Module, inputs: tuple[object, ...]) -> None:
    try:
        fail_on_plain_pictures(module, inputs)
    except RuntimeError:
        os._exit(139)


def _work(spec: ModelSpec, ledger: Bookkeeper, table: pa.Table, answer: Connection) -> None:
    with torch.nn.modules.module.register_module_forward_pre_hook(die_of_plain_pictures):
        answer.send(Labeller(spec, ledger, at_once=4)(table))


def in_a_worker(spec: ModelSpec, ledger: Bookkeeper, table: pa.Table) -> list[ImageRow] | None:
    """The rows that a worker process makes of a table; None where it died."""
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_work, args=(spec, ledger, table, sender))
    process.start()
    sender.close()
    try:
        rows = receiver.recv()
    except EOFError:
        rows = None
    process.join()
    return None if rows is None else from_batch(rows)


def test_a_death_with_four_images_in_work_costs_the_guilty_one(tiny_sam_checkpoint: Path) -> None:
    spec = ModelSpec("vit_b", str(tiny_sam_checkpoint), None, "cpu", AMG, LIMITS, threads=1)
    plain = BytesIO()
    Image.new("RGB", (32, 32), (90, 30, 60)).save(plain, "PNG")
    images: dict[str, bytes | None] = {f"image-{seed}": png((40, 30 + seed), seed) for seed in range(6)}
    images["image-2"] = plain.getvalue()
    table = loaded(**images)
    with _Manager(ctx=FORK) as manager:
        ledger: Any = manager.Ledger()  # type: ignore[attr-defined]
        deaths = 0
        while (rows := in_a_worker(spec, ledger, table)) is None:
            deaths += 1
            assert deaths <= MAX_STARTS
        assert deaths == MAX_STARTS
    found = {row.image_id: replace(row, seconds=0.0) for row in rows}
    assert list(found) == list(images)
    assert found.pop("image-2").error == f"given up: {MAX_STARTS} workers died while labelling this image"
    undisturbed = from_batch(Labeller(spec, Ledger(), at_once=4)(table))
    assert found == {row.image_id: replace(row, seconds=0.0) for row in undisturbed if row.image_id in found}
    assert all(row.error is None for row in found.values())
