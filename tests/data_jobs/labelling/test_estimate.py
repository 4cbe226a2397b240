"""The estimate's arithmetic, and what its command refuses."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_jobs.estimate import command
from data_jobs.labelling.estimate import Estimate, estimate, load, sample_positions, save, seconds_of, select
from data_jobs.labelling.inputs import ImageRef
from data_jobs.labelling.prices import Prices, spot_share
from data_jobs.labelling.resume import IdSet, write_pending
from data_jobs.runtime.actors import Actors
from data_jobs.runtime.scheduling import Node
from everymask.errors import ConfigurationError
from everymask.labels.rows import to_table
from everymask.labels.store import LabelStore
from tests.labels.examples import images

GPU_ACTORS = Actors(minimum=1, maximum=8, gpus=0.5, cpus=0.5, threads=1)


@given(st.integers(1, 500), st.integers(1, 80), st.integers(0, 5))
def test_sample_takes_one_image_from_each_run_of_the_listing(population: int, size: int, seed: int) -> None:
    groups = sample_positions(population, size, seed)
    positions = sorted(position for group in groups for position in group)
    size = min(size, population)
    assert len(set(positions)) == len(positions) == size
    for run, position in enumerate(positions):
        assert run * population // size <= position < (run + 1) * population // size
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert len(groups) == 1 or min(map(len, groups)) >= 2


def collection(seed: int) -> np.ndarray:
    """Seconds per image of folders that differ a lot between and little within, with a few slow images."""
    generator = np.random.default_rng(seed)
    folders = [generator.lognormal(mean, 0.2, size=400) for mean in generator.normal(0, 0.7, size=5)]
    return np.concatenate(folders)


def test_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for seed in range(200):
        seconds = collection(seed)
        groups = sample_positions(len(seconds), 60, seed)
        means = [fmean(seconds[group]) for group in groups]
        foretold = estimate(means, len(seconds), 60, GPU_ACTORS, startup_s=0)
        held += abs(foretold.seconds_per_image - seconds.mean()) <= foretold.margin_s
    assert held >= 180


def test_stratifying_beats_a_plain_sample() -> None:
    stratified, plain = [], []
    for seed in range(100):
        seconds = collection(seed)
        positions = [position for group in sample_positions(len(seconds), 40, seed) for position in group]
        stratified.append(fmean(seconds[positions]) - seconds.mean())
        plain.append(np.random.default_rng(seed).choice(seconds, 40, replace=False).mean() - seconds.mean())
    assert np.std(stratified) < 0.7 * np.std(plain)


def test_nothing_is_uncertain_once_every_image_was_tried() -> None:
    assert estimate([2.0], images=3, sampled=3, actors=GPU_ACTORS, startup_s=0).margin_s == 0


def test_report_counts_gpus_and_workers() -> None:
    foretold = Estimate(
        images=36_000, sampled=40, seconds_per_image=2.0, margin_s=0.2, workers=8, gpus_per_worker=0.5, startup_s=60
    )
    figures = dict(line.strip().split("  ", 1) for line in foretold.report().splitlines()[1:])
    assert {name: value.strip() for name, value in figures.items()} == {
        "images/s per GPU": "1 ± 0.1",
        "images/s, 8 workers": "4 ± 0.4",
        "GPU-hours": "10 ± 1",
        "GPUs on spot machines": "0%",
        "time for all": "2 h 31 min ± 15 min 00 s, 1 min 00 s of it beside labelling",
    }


def test_cost_is_that_of_the_machines_from_start_to_end() -> None:
    """Four GPUs for 2 h 31 min, three of them on spot machines."""
    foretold = Estimate(
        images=36_000,
        sampled=40,
        seconds_per_image=2.0,
        margin_s=0.2,
        workers=8,
        gpus_per_worker=0.5,
        startup_s=60,
        spot_share=0.75,
        prices=Prices(2.0, 0.8),
    )
    (line,) = [line for line in foretold.report().splitlines() if line.startswith("  cost")]
    assert line.split("  ")[-1].strip() == "11.1 ± 1.1, at 1.1 for a GPU-hour"
    assert "GPUs on spot machines   75%" in foretold.report()
    assert Prices(2.0).mean(0.75) == 2.0


def test_spot_share_is_that_of_the_gpus_that_may_be_used() -> None:
    spot, on_demand = {"ray.io/market-type": "spot"}, {"ray.io/market-type": "on-demand"}
    nodes = [Node(8, 4, spot), Node(8, 1, on_demand), Node(64, 0, spot), Node(8, 3, {})]
    assert spot_share(nodes, {}) == 0.5
    assert spot_share(nodes, on_demand) == 0
    assert spot_share([], {}) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--sample", "3"], "a sample of at least 4; got 3"),
        (["--spot-price-per-gpu-hour", "2"], "give both"),
        (["--price-per-gpu-hour", "-1"], "^price-per-gpu-hour must be a price; got -1"),
        (["--price-per-gpu-hour", "inf"], "^price-per-gpu-hour must be a price; got inf"),
        (["--price-per-gpu-hour", "1", "--spot-price-per-gpu-hour", "-2"], "^spot-price-per-gpu-hour must be a price"),
    ],
)
def test_samples_and_prices_that_make_no_sense_are_refused(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        command.parse(["--input", "in", "--output", "out", *arguments])


def test_comparison_is_made_for_the_images_that_were_left() -> None:
    foretold = Estimate(1000, 40, seconds_per_image=2.0, margin_s=0.2, workers=4, gpus_per_worker=0, startup_s=10)
    line = foretold.compare(images=100, worker_s=220, wall_s=70)
    assert "estimated 1 min 00 s ± 5 s" in line
    assert "took 1 min 10 s" in line
    assert "+10%" in line


def test_estimate_is_kept_in_the_store(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    assert load(store) is None
    foretold = replace(estimate([1.0, 2.0], 100, 4, GPU_ACTORS, startup_s=3.5), spot_share=0.5, prices=Prices(2.0))
    save(store, foretold)
    assert load(store) == foretold
    assert math.isfinite(foretold.margin_s)
    for damaged in (b"", b"[]", b"[" * 100_000, b'{"images": 4}', b'{"prices": 5}'):
        store.estimate_file.write(damaged)
        assert load(store) is None


def test_selected_images_are_those_at_the_positions(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    listed = [ImageRef(f"{index:05d}.jpg", f"/photos/{index:05d}.jpg") for index in range(9000)]
    pending = write_pending(store, iter(listed), IdSet())
    positions = sample_positions(len(listed), 12)
    assert select(pending, positions) == tuple(tuple(listed[position] for position in group) for group in positions)


def test_the_seconds_of_a_group_are_the_mean_of_its_rows_failed_ones_too(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    rows = images()  # of 0.5, 0.25 and 0 seconds
    store.write_part(to_table(rows[:1]))
    store.write_part(to_table(rows[1:]))
    refs = [ImageRef(row.image_id, row.uri) for row in rows]
    assert seconds_of(store, [refs[:2], refs[2:], refs]) == [0.375, 0.0, 0.25]


@pytest.mark.parametrize("population", [1, 2, 3])
def test_a_tiny_collection_is_tried_whole(population: int) -> None:
    assert sorted(itertools.chain(*sample_positions(population, 10))) == list(range(population))
