"""The ledger, which all workers share, is asked once for a batch; and hears of slow images while they go on."""

from __future__ import annotations

import itertools
from pathlib import Path

from data_jobs.labelling.finished import Finished
from data_jobs.labelling.labeller import Labeller
from data_jobs.labelling.ledger import Done, Ledger, Memory
from data_jobs.labelling.model_spec import ModelSpec
from tests.data_jobs.labelling.read_images import AMG, LIMITS, loaded, png


class CountingLedger(Ledger):
    """Counts the calls that would each be a message."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[list[str]] = []
        self.finished: list[list[str]] = []

    def begin_batch(self, image_ids: list[str]) -> list[int]:
        self.begun.append(image_ids)
        return super().begin_batch(image_ids)

    def finish(self, image_ids: list[str], done: Done, memory: Memory | None = None) -> None:
        self.finished.append(image_ids)
        super().finish(image_ids, done, memory)


def test_a_batch_is_booked_once_and_every_image_is_told_of_once(tiny_sam_checkpoint: Path) -> None:
    spec = ModelSpec("vit_b", str(tiny_sam_checkpoint), None, "cpu", AMG, LIMITS, threads=1)
    names = [f"image-{number}" for number in range(12)]
    images: dict[str, bytes | None] = {name: png((20, 20), seed) for seed, name in enumerate(names)}
    ledger = CountingLedger()
    Labeller(spec, ledger)(loaded(**images | {"lost": None}))
    assert ledger.begun == [[*names, "lost"]]
    assert sorted(itertools.chain.from_iterable(ledger.finished)) == sorted([*names, "lost"])
    assert (ledger.progress().images, ledger.progress().in_work) == (13, 0)


def test_an_image_that_was_in_work_when_a_worker_died_runs_alone_and_once(tiny_sam_checkpoint: Path) -> None:
    spec = ModelSpec("vit_b", str(tiny_sam_checkpoint), None, "cpu", AMG, LIMITS, threads=1)
    names = [f"image-{number}" for number in range(4)]
    images: dict[str, bytes | None] = {name: png((20, 20), seed) for seed, name in enumerate(names)}
    ledger = CountingLedger()
    ledger.begin_batch(names[1:3])
    Labeller(spec, ledger, together=2)(loaded(**images))
    assert ledger.finished == [["image-0", "image-3"], ["image-1"], ["image-2"]]


def test_quick_images_are_told_of_together_and_slow_ones_at_once() -> None:
    told: list[tuple[list[str], Done]] = []
    quick = Finished(lambda *of: told.append(of), every_s=3600)
    quick.add(["a"], Done(["it is lost"], masks=1, seconds={"embed": 1.0}))
    quick.add(["b"], Done(masks=2, file_bytes=7, seconds={"embed": 0.5, "refine": 2.0}))
    assert not told
    quick.tell()
    quick.tell()
    both = Done(["it is lost"], masks=3, file_bytes=7, seconds={"embed": 1.5, "refine": 2.0})
    assert told == [(["a", "b"], both)]
    slow = Finished(lambda *of: told.append(of), every_s=0)
    slow.add(["c"], Done())
    assert told[1:] == [(["c"], Done())]
