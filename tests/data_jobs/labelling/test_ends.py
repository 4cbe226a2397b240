"""How a run ends: its exit code, its estimate against what happened, and its shards, sealed one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from data_jobs.estimate import command as estimate
from data_jobs.labelling import sharded
from data_jobs.labelling.attempts import Earlier
from data_jobs.labelling.config import EstimateConfig, StoreOptions
from data_jobs.labelling.estimate import Estimate, save
from data_jobs.labelling.guard import Guard
from data_jobs.labelling.inputs import ImageRef
from data_jobs.labelling.manifests import Manifest
from data_jobs.labelling.model_files import ModelFiles
from data_jobs.labelling.model_spec import ModelFacts, ModelSpec
from data_jobs.labelling.pipeline import Tell
from data_jobs.labelling.prices import Prices
from data_jobs.labelling.run import _exit_code, _prices
from data_jobs.labelling.shard_addresses import forget_addresses
from data_jobs.labelling.sharding import cut
from data_jobs.labelling.start import Crew, Started
from data_jobs.labelling.totals import Totals
from data_jobs.runtime.actors import Actors
from data_jobs.runtime.exit_codes import DONE, TOO_MANY_ERRORS
from data_jobs.runtime.machines import Machines
from everymask.errors import ConfigurationError
from everymask.images.decoding import ImageLimits
from everymask.labelling.config import LabelConfig
from everymask.labels.parts import PartSummary
from everymask.labels.rows import to_table
from everymask.labels.sealing import seal_shard
from everymask.labels.shards import Shard
from everymask.labels.store import LabelStore
from tests.data_jobs.labelling.damaged import damage
from tests.data_jobs.labelling.opened_runs import FACTS, HELD, config, labelled, opened
from tests.labels.examples import images
from tests.labels.shard_files import write_shard

SPEC = ModelSpec("nano", None, None, "cpu", LabelConfig(), ImageLimits(), 1)


@pytest.mark.parametrize(
    ("max_errors", "errors", "code"),
    [("3", 3, DONE), ("3", 4, TOO_MANY_ERRORS), ("30%", 6, DONE), ("30%", 7, TOO_MANY_ERRORS), ("0", 0, DONE)],
)
def test_a_run_fails_where_more_images_failed_than_may(
    max_errors: str, errors: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    options = StoreOptions(output="out", max_errors=max_errors)
    assert _exit_code(options, PartSummary(20, errors, 100, 1.0)) == code
    said = capsys.readouterr().err
    assert (f"{errors} of 20 images failed, more than --max-errors {max_errors}" in said) == (code != DONE)


def sampling(*prices: str) -> EstimateConfig:
    found = estimate.parse(["--input", "in", "--output", "out", *prices])
    assert isinstance(found, EstimateConfig)
    return found


def test_an_estimate_reckons_with_both_prices_and_only_where_there_are_gpus() -> None:
    given = sampling("--price-per-gpu-hour", "3", "--spot-price-per-gpu-hour", "1")
    assert _prices(given, Actors(1, 1, 1.0, 1.0, 1, {})) == Prices(3.0, 1.0)
    with pytest.raises(ConfigurationError, match="no worker of this run has a GPU"):
        _prices(given, Actors(1, 1, 0.0, 1.0, 1, {}))
    assert _prices(sampling(), Actors(1, 1, 0.0, 1.0, 1, {})) is None
    assert _prices(None, Actors(1, 1, 1.0, 1.0, 1, {})) is None


@pytest.mark.parametrize("foretold", [True, False])
@pytest.mark.parametrize("added", [HELD, PartSummary()])
def test_an_estimate_is_held_against_a_run_that_labelled_something(
    tmp_path: Path, added: PartSummary, foretold: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run = opened(tmp_path)
    labelled(run)
    if foretold:
        save(run.store, Estimate(3, 2, 1.0, 0.1, workers=1, gpus_per_worker=0, startup_s=1.0))
    started = Started(run, Crew(SPEC, Actors(1, 1, 0.0, 1.0, 1)), 1, Guard("50%", None), Totals(0.0))
    assert started.close_as_foretold(3, added) == HELD
    assert ("\nestimated " in capsys.readouterr().out) == (foretold and added.images > 0)


@pytest.mark.parametrize("problem", [None, RuntimeError("the disk is full")])
def test_a_shard_counts_as_sealed_when_it_is_and_not_when_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception | None
) -> None:
    sealing: Future[None] = Future()
    task = SimpleNamespace(future=lambda: sealing)
    monkeypatch.setattr(sharded, "_seal", SimpleNamespace(remote=lambda *_: task))
    sealed: list[str] = []
    store = LabelStore(config(tmp_path).store.output)
    sharded.Sealer(store, "a" * 64, lambda: sealed.append("one")).begin(Shard(store.root, 0))
    assert not sealed
    if problem is None:
        sealing.set_result(None)
    else:
        sealing.set_exception(problem)
    assert len(sealed) == (problem is None)


@dataclass(frozen=True)
class Recorded(Started):
    """A run whose workers note what they are to label, and label nothing; its output is not looked at in the end."""

    asked: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def label(self, pending: Manifest, shard: int | None = None, tell: Tell | None = None) -> PartSummary:
        self.asked.extend(image.image_id for image in pending.read())
        self.addresses.extend(image.uri for image in pending.read())
        return PartSummary()

    def close_as_foretold(self, expected: int | None, added: PartSummary) -> PartSummary:
        return added


@pytest.fixture
def sealing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards count as sealed, without a cluster that seals them."""
    monkeypatch.setattr(sharded, "_seal", SimpleNamespace(remote=lambda *_: SimpleNamespace(future=Future)))
    monkeypatch.setattr(ray, "get", lambda _: None)


def resumed(folder: Path, *options: str) -> list[str]:
    """The images that a run labels of the shards in its output."""
    return sorted(resume(folder, *options).asked)


def resume(folder: Path, *options: str, listed: Sequence[ImageRef] = ()) -> Recorded:
    """A run that goes on with the shards in its output."""
    of, run = config(folder, *options), opened(folder, *options)
    found = Earlier.read(of.store, run.store, run.record.config, ModelFiles.of(of))
    crew = Crew(SPEC, Actors(1, 1, 0.0, 1.0, 1))
    started = Recorded(run, crew, 1, Guard("50%", None), Totals(0.0))
    sharded.resume_shards(sharded.Input(of, run.store, iter(()), lambda: iter(listed)), found, lambda: started)
    return started


@pytest.mark.usefixtures("sealing_at_once")
def test_failed_images_of_a_sealed_shard_are_read_by_the_signatures_of_today(tmp_path: Path) -> None:
    store = opened(tmp_path).store
    address = "https://host/{}?X-Amz-Signature={}"
    rows = [replace(image, uri=address.format(image.image_id, "***")) for image in images()]
    (failed,) = (row.image_id for row in rows if row.error)
    listed, today = (
        [ImageRef(row.image_id, address.format(row.image_id, key)) for row in rows] for key in ("0ld", "n3w")
    )
    (shard,) = cut(store, iter(listed), 9)
    store.write_part(to_table(rows), {"method": "amg"}, shard=shard.number)
    seal_shard(store, shard, "a" * 64)
    forget_addresses(shard)
    assert resume(tmp_path, listed=today).asked == []
    assert resume(tmp_path, "--retry-failed", listed=today).addresses == [address.format(failed, "n3w")]


@pytest.mark.parametrize("options", [[], ["--verify"]])
@pytest.mark.usefixtures("sealing_at_once")
def test_a_run_in_shards_verifies_those_that_are_not_sealed_if_it_is_asked_to(
    tmp_path: Path, options: list[str]
) -> None:
    store = opened(tmp_path).store
    write_shard(store, 0, images()[:2])
    damage(Path(store.parts()[0]), "masks.list.element.rle.counts")
    assert resumed(tmp_path, *options) == (["a/1.jpg", "b/1.jpg"] if options else [])


@pytest.mark.usefixtures("sealing_at_once")
def test_shards_that_changed_files_reopen_are_labelled_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path).store
    write_shard(store, 0, images()[:1])

    def reopened(*_: object) -> list[Shard]:
        shard = write_shard(store, 1, images()[1:2])
        (part,) = [Path(part) for part in store.parts() if Path(part).name.startswith("000001-")]
        part.unlink()
        return [shard]

    monkeypatch.setattr(sharded.Input, "settle", reopened)
    assert resumed(tmp_path) == ["b/1.jpg"]


def test_a_crew_looks_into_its_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[ModelSpec] = []

    def inspect(spec: ModelSpec, actors: Actors, machines: Machines) -> ModelFacts:
        looked.append(spec)
        return FACTS

    monkeypatch.setattr("data_jobs.labelling.start.inspect_model", inspect)
    monkeypatch.setattr("data_jobs.labelling.start.nodes_of_the_launcher", list)
    monkeypatch.setattr("data_jobs.labelling.start.check_schedulable", lambda *_: None)
    crew = Crew(SPEC, Actors(1, 1, 0.0, 1.0, 1)).inspected()
    assert crew.inspected() == crew == Crew(replace(SPEC, expected=FACTS), crew.actors)
    assert (looked, crew.facts()) == ([SPEC], FACTS)
