"""What a run records of itself, shows in the end, and refuses to go on with; all of it without a worker."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from data_jobs.labelling.attempts import Earlier, Run
from data_jobs.labelling.estimate import Estimate, save
from data_jobs.labelling.failures import failures_line
from data_jobs.labelling.inputs import ImageRef
from data_jobs.labelling.manifests import Manifest
from data_jobs.labelling.model_files import ModelFiles
from data_jobs.labelling.model_spec import ModelSpec
from data_jobs.labelling.prices import Prices
from data_jobs.labelling.run_configuration import comparable, configuration_without_model, run_configuration
from data_jobs.labelling.start import Crew
from data_jobs.relabel import command as relabel
from data_jobs.runtime.actors import Actors
from everymask.errors import ConfigurationError
from everymask.files.addresses import AddressError
from everymask.images.decoding import ImageLimits
from everymask.images.sources.options import SourceOptions
from everymask.labelling.config import LabelConfig
from everymask.labels.provenance import read_run
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.run_summary import RunSummary
from everymask.labels.sealing import seal_shard
from everymask.labels.store import LabelStore, PartSummary
from everymask.records import ImageLabels
from tests.data_jobs.labelling.opened_runs import FACTS, HELD, config, labelled, opened
from tests.formats.shapes import sha256_of
from tests.labels.shard_files import write_shard


def test_a_run_counts_records_and_shows_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = opened(tmp_path)
    assert [attempt.labelled for attempt in run.record.attempts] == [None]
    labelled(run)
    signed = [ImageRef("a", "https://host/a.jpg?X-Amz-Signature=v3ry-s3cret")]
    for images in (run.store.pending, run.store.changed):
        Manifest.at(images).with_more(signed)
    capsys.readouterr()
    assert run.close(3, HELD) == HELD
    assert not any(images.entries() for images in (run.store.pending, run.store.changed))
    said = capsys.readouterr().out
    output = str(tmp_path / "out")
    assert "3 images labelled in " in said
    assert f"; {output} holds 3 images, 2 masks, 1 error\n" in said
    assert f"look at {output}/preview/index.html\n" in said
    assert "1 error: c.jpg: the file is empty (0 bytes)\n" in said
    page = (tmp_path / "out" / "preview" / "index.html").read_text()
    assert page.count("data:image/jpeg;base64") == 4, "two pictures, each with and without its masks"
    assert f"<code>everymask browse {output}</code>" in page
    record = read_run(LabelStore(output))
    assert record is not None
    assert (record.counts, [attempt.labelled for attempt in record.attempts]) == (HELD, [3])
    assert record.attempts[0].command == f"everymask label --input={tmp_path / 'in'} --output={output}"


def test_a_second_attempt_stands_beside_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = opened(tmp_path)
    labelled(first)
    first.close(3, HELD)
    page = tmp_path / "out" / "preview" / "index.html"
    page.write_text("as it was")
    capsys.readouterr()
    second = opened(tmp_path, "--max-errors", "3")
    assert second.finished.images == 3
    second.close(3, PartSummary())
    assert "0 images labelled in " in capsys.readouterr().out
    assert page.read_text() == "as it was", "nothing is new"
    attempts = json.loads((tmp_path / "out" / "run.json").read_text())["attempts"]
    assert [attempt["labelled"] for attempt in attempts] == [3, 0]
    assert ["--max-errors=3" in attempt["command"] for attempt in attempts] == [False, True]


def test_previews_are_drawn_within_the_limits_and_not_at_all_where_none_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = opened(tmp_path, "--previews", "0")
    labelled(run)
    run.close(3, HELD)
    assert "look at" not in capsys.readouterr().out
    assert not (tmp_path / "out" / "preview").exists()
    small = opened(tmp_path, "--limits.max-pixels", "100", "--overwrite")
    labelled(small)
    small.close(3, HELD)
    page = (tmp_path / "out" / "preview" / "index.html").read_text()
    assert page.count("data:image/jpeg;base64") == 2, "of 60 x 40 and of 9 x 7 pixels, the second alone"


def test_what_a_run_spent_is_told_and_recorded_with_its_cost_where_the_price_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spent = RunSummary(3, {"read": 2.0}, worker_s=40.0, device_s=10.0, gpus_per_worker=1.0, gpu_hours=0.5)
    busy = "GPUs computed for 25% of the workers' 40 s; 0.5 GPU-hours"
    run = opened(tmp_path)
    labelled(run)
    run.close(3, HELD, spent)
    assert f"  {busy}\n" in capsys.readouterr().out
    save(run.store, Estimate(3, 3, 1.0, 0.0, 1, 0.5, 0.0, prices=Prices(7.0)))
    run.close(3, HELD, spent)
    assert f"  {busy}, cost 3.5\n" in capsys.readouterr().out
    recorded = json.loads((tmp_path / "out" / "run.json").read_text())["attempts"][-1]["summary"]
    assert (recorded["cost"], recorded["worker_seconds"]) == (3.5, 40.0)


@pytest.mark.parametrize("more", [[], ["--allow-private-networks"]])
def test_what_a_list_may_name_is_said_by_the_options(tmp_path: Path, more: list[str]) -> None:
    words = ["--input", "https://h/list.txt", "--local-root", str(tmp_path / "mine"), *more]
    policy = config(tmp_path, *words).address_policy()
    assert policy.allow_private_networks is bool(more)
    policy.check(str(tmp_path / "mine" / "a.jpg"))
    with pytest.raises(AddressError):
        policy.check(str(tmp_path / "a.jpg"))


def test_a_store_that_lacks_images_is_not_called_finished(tmp_path: Path) -> None:
    run = opened(tmp_path)
    labelled(run)
    with pytest.raises(RuntimeError, match=r"has 3 rows, expected 4; run the same command again"):
        run.close(4, HELD)
    assert run.close(None, HELD) == HELD, "seals have counted them"


def test_another_configuration_is_refused_and_named_and_begins_anew_with_overwrite(tmp_path: Path) -> None:
    labelled(opened(tmp_path))
    other = replace(FACTS, weights_sha256="b" * 64)
    with pytest.raises(
        ConfigurationError, match=r"published one \(a{12}\), now the published one \(b{12}\).* --overwrite"
    ):
        opened(tmp_path, facts=other)
    with pytest.raises(ConfigurationError, match="min_region_area was not set, now 5"):
        opened(tmp_path, "--min-region-area", "5")
    again = opened(tmp_path, "--overwrite", facts=other)
    assert (again.store.parts(), len(again.record.attempts)) == ([], 1)


def test_a_damaged_record_is_made_anew_from_the_rows_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled(opened(tmp_path))
    file = tmp_path / "out" / "run.json"
    file.write_text("{")
    run = opened(tmp_path)
    assert "run.json is made anew from the labels beside it, since it was damaged" in capsys.readouterr().out
    assert run.finished.images == 3
    assert json.loads(file.read_text())["config"]["model"] == "nano"
    assert [path.read_text() for path in (tmp_path / "out").rglob("*damaged*") if path.is_file()] == ["{"]


def test_a_run_without_anything_to_label_asks_for_no_model(tmp_path: Path) -> None:
    labelled(opened(tmp_path))
    of = config(tmp_path)
    store = LabelStore(of.store.output)
    known = configuration_without_model(of.input, of.label_config(), "nano", of.limits, of.sources)
    assert "weights_sha256" not in known
    earlier = Earlier.read(of.store, store, known, ModelFiles.of(of))
    assert earlier.record is not None
    run = Run.without_workers(of, store, earlier.record, earlier)
    assert [attempt.device for attempt in run.record.attempts] == ["cpu", "none"]
    assert run.record.config["weights_sha256"] == "a" * 64


def test_at_most_three_failures_are_named(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "store"))
    store.write_part(to_table([ImageRow("fine", "/fine", ImageLabels((4, 4), (), 0.0))]))
    assert failures_line(store, store.summary()) == ""
    for number in range(5):
        store.write_part(to_table([ImageRow(f"{number}.jpg", f"/{number}.jpg", None, f"lost {number}")]))
    line = failures_line(store, store.summary())
    assert line.startswith("5 errors: ")
    assert line.endswith("; and 2 more")
    named = [words for words in line.removeprefix("5 errors: ").split("; ") if words != "and 2 more"]
    assert len(named) == 3
    assert set(named) <= {f"{number}.jpg: lost {number}" for number in range(5)}


def test_what_is_taken_of_files_is_recorded_where_somebody_says_it() -> None:
    limits = ImageLimits()
    plain = run_configuration("https://h/list.txt?sig=secret", LabelConfig("amg"), FACTS, limits)
    assert plain["input"] == "https://h/list.txt?sig=***"
    assert (plain["limits"], "sources" in plain) == (asdict(limits), False)
    pages = replace(SourceOptions(), all_pages=True)
    said = run_configuration("in", LabelConfig("amg"), FACTS, limits, pages)
    assert said["sources"] == asdict(pages)


def test_a_threshold_that_only_the_head_tells_is_no_difference() -> None:
    recorded: dict[str, Any] = {"model": "nano", "weights_sha256": "a", "classes": {"score_thresh": 0.5, "nms": 1}}
    unknown = {"model": "nano", "classes": {"score_thresh": None, "nms": 1}}
    assert comparable(recorded, unknown) == unknown
    given = {"model": "nano", "classes": {"score_thresh": 0.7, "nms": 1}}
    assert comparable(recorded, given) != given
    assert comparable({**recorded, "tiles": 2}, unknown) == {**unknown, "tiles": 2}


def test_labelling_from_kept_masks_has_the_sizes_that_were_asked_for() -> None:
    words = ["--embeddings", "kept", "--head", "h", "--output", "out", "--min-region-area", "7"]
    asked = relabel.parse([*words, "--max-region-area", "90", "--classes.score-thresh", "0.25"]).label_config()
    assert (asked.method, asked.min_region_area, asked.max_region_area) == ("classes", 7, 90)
    assert asked.classes.score_thresh == 0.25


@pytest.mark.parametrize(
    ("minimum", "maximum", "gpus", "words"),
    [
        (1, 1, 0, "nano (amg), 1 worker on the CPU"),
        (2, 2, 0, "nano (amg), 2 workers on the CPU"),
        (1, 4, 0.5, "nano (amg), 1 to 4 workers 0.5 GPU each"),
    ],
)
def test_a_crew_says_how_many_it_is_and_where(minimum: int, maximum: int, gpus: float, words: str) -> None:
    spec = ModelSpec("nano", None, None, "cpu", LabelConfig("amg"), ImageLimits(), 1)
    assert str(Crew(spec, Actors(minimum, maximum, gpus, 1.0, 1))) == words


def test_the_digest_of_a_class_head_is_known_before_the_model_is(tmp_path: Path) -> None:
    head = tmp_path / "head.safetensors"
    head.write_bytes(b"weights")
    of = config(tmp_path)
    known = configuration_without_model(of.input, of.label_config(), "nano", of.limits, of.sources, str(head))
    assert known["head_sha256"] == sha256_of(head)
    gone = configuration_without_model(of.input, of.label_config(), "nano", of.limits, head=str(tmp_path / "gone"))
    assert "head_sha256" not in gone


def test_a_damaged_seal_is_made_again_before_the_store_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = opened(tmp_path)
    rows = [ImageRow(f"{n}.jpg", f"/{n}.jpg", ImageLabels((7, 9), (), 0.0), None, f"{n}" * 64) for n in range(3)]
    shard = write_shard(run.store, 0, rows)
    seal_shard(run.store, shard, run.record.config_sha256)
    Path(shard.seal_file.path).write_text("{")
    capsys.readouterr()
    assert sorted(row.image_id for row in opened(tmp_path).store.images()) == ["0.jpg", "1.jpg", "2.jpg"]
    assert "seal.json was damaged; it is made again from parts with 3 images" in capsys.readouterr().out
