"""The stages without Ray: bytes in, rows out, whatever the input."""

from __future__ import annotations

import hashlib
import logging
import os
import resource
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from PIL import Image

from data_jobs.labelling.guard import summary_of
from data_jobs.labelling.labeller import Labeller, load_model, model_facts
from data_jobs.labelling.ledger import MAX_STARTS, Done, Ledger, Progress
from data_jobs.labelling.model_spec import ModelSpec
from data_jobs.labelling.stages import load_and_tell, load_bytes, write_and_tell, write_part
from everymask.backbone.sam import SamBackbone
from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.embeddings import load_embeddings
from everymask.errors import CheckpointError, ConfigurationError
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import decode_image
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.labelling.settings import label_settings
from everymask.labels.mask_ids import settings_digest, with_mask_ids
from everymask.labels.rows import ImageRow, from_batch
from everymask.labels.run_summary import STAGES
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.data_jobs.labelling.read_images import AMG, LIMITS, fail_on_plain_pictures, loaded, png
from tests.serve.running_service import write_head


@pytest.fixture(scope="module")
def spec(tiny_sam_checkpoint: Path) -> ModelSpec:
    return ModelSpec("vit_b", str(tiny_sam_checkpoint), None, "cpu", AMG, LIMITS, threads=1)


def run(spec: ModelSpec, ledger: Ledger, table: pa.Table) -> dict[str, ImageRow]:
    rows = from_batch(Labeller(spec, ledger, together=8)(table))
    assert [row.image_id for row in rows] == table["image_id"].to_pylist()
    return {row.image_id: row for row in rows}


def test_bytes_are_read_and_every_failure_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "ok").write_bytes(b"12345")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "big").write_bytes(b"x" * 50_001)
    (tmp_path / "folder").mkdir()
    names = ["ok", "empty", "big", "folder", "missing"]
    batch = pa.table({"image_id": names, "uri": [str(tmp_path / name) for name in names]})
    rows = {row["image_id"]: row for row in load_bytes(batch, LIMITS, AddressPolicy(any_local_file=True)).to_pylist()}
    assert rows["ok"]["data"] == b"12345"
    assert rows["ok"]["content_sha256"] == hashlib.sha256(b"12345").hexdigest()
    assert {name: rows[name]["error"] for name in names} == {
        "ok": None,
        "empty": "the file is empty (0 bytes)",
        "big": "the file has 50,001 bytes, more than the limit of 50,000; raise max-bytes to take it",
        "folder": "this is a folder, not a file",
        "missing": "the file is not there",
    }


def test_one_bad_address_costs_its_own_row_alone(tmp_path: Path) -> None:
    (tmp_path / "ok").write_bytes(b"12345")
    bad = ["reference::data://x/a.jpg", "data://,x", "http://[::1", "http://127.0.0.1:1/a.jpg", "s3://", "a\0b.jpg"]
    batch = pa.table({"image_id": [*map(repr, bad), "ok"], "uri": [*bad, str(tmp_path / "ok")]})
    *failed, good = load_bytes(batch, LIMITS, AddressPolicy(any_local_file=True)).to_pylist()
    assert good["data"] == b"12345"
    assert all(row["error"] and row["data"] is None for row in failed)


def test_labels_are_those_of_the_library_whatever_fails_beside_them(spec: ModelSpec) -> None:
    good, other = png((48, 32)), png((20, 40), seed=1)
    rows = run(spec, Ledger(), loaded(good=good, lost=None, noise=b"no image", other=other, bomb=png((101, 100))))
    backbone, _ = load_model(spec)
    settings = settings_digest(label_settings(AMG, "vit_b", backbone.weights_sha256))
    expected = [
        with_mask_ids(labels, None, settings)
        for labels in label_images(backbone, [decode_image(good), decode_image(other)], AMG)
        if isinstance(labels, ImageLabels)
    ]
    assert [rows["good"].labels, rows["other"].labels] == expected
    assert rows["lost"].error == "lost"
    assert rows["noise"].error == "not an image in a known format (it starts with b'no image')"
    assert rows["bomb"].error is not None
    assert rows["bomb"].error.startswith("the image has 101 x 100 = 10,100 pixels")


class NoFileToSpare(logging.Handler):
    """No file can be opened, until the reader has said often enough that it tries again."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self._failures = failures
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.warnings: list[str] = []

    def __enter__(self) -> NoFileToSpare:
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        logging.getLogger("data_jobs.labelling.stages").addHandler(self)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, self._limits[1]))
        return self

    def emit(self, record: logging.LogRecord) -> None:
        """Files can be opened again after the last failure that is wanted."""
        self.warnings.append(record.getMessage())
        if len(self.warnings) == self._failures:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
        logging.getLogger("data_jobs.labelling.stages").removeHandler(self)


@pytest.mark.parametrize("failures", [1, 6, 7])
def test_a_read_that_fails_is_tried_for_half_a_minute(
    tmp_path: Path, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("data_jobs.labelling.stages.time.sleep", waits.append)
    (tmp_path / "ok").write_bytes(b"12345")
    batch = pa.table({"image_id": ["x"], "uri": [str(tmp_path / "ok")]})
    with NoFileToSpare(failures) as fault:
        (row,) = load_bytes(batch, LIMITS, AddressPolicy(any_local_file=True)).to_pylist()
    assert len(fault.warnings) == len(waits) == min(failures, 6)
    assert failures < 6 or 30 <= sum(waits) <= 40
    assert all("trying again in" in warning for warning in fault.warnings)
    if failures < 7:
        assert (row["data"], row["error"]) == (b"12345", None)
    else:
        assert row["data"] is None
        assert row["error"].startswith("the file cannot be read (")


def test_an_error_that_nobody_foresaw_costs_one_image_not_its_batch(spec: ModelSpec) -> None:
    plain = BytesIO()
    Image.new("RGB", (32, 32), (90, 30, 60)).save(plain, "PNG")
    table = loaded(before=png((48, 32)), plain=plain.getvalue(), after=png((20, 40), seed=1))
    ledger = Ledger()
    with torch.nn.modules.module.register_module_forward_pre_hook(fail_on_plain_pictures):
        rows = run(spec, ledger, table)
    assert rows["plain"].error == "labelling failed unexpectedly (RuntimeError: no plain pictures here)"
    for position, name in enumerate(("before", "plain", "after")):
        alone = run(spec, Ledger(), table.slice(position, 1))[name]
        assert alone.labels is not None, "it is the fault, not the picture"
        assert name == "plain" or rows[name].labels == alone.labels
    done = ledger.progress()
    assert (done.images, done.errors, done.in_work) == (3, {"labelling failed unexpectedly": 1}, 0)
    assert done.file_bytes == sum(len(data) for data in table["data"].to_pylist())
    assert done.masks == sum(len(row.labels.masks) for row in rows.values() if row.labels)


def test_seconds_are_reported_by_stage_and_lie_within_the_workers_time(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(png((48, 32)))
    ledger = Ledger()
    listed = pa.table({"image_id": ["image"], "uri": [str(tmp_path / "image.png")]})
    table = load_and_tell(listed, LIMITS, AddressPolicy(any_local_file=True), ledger)
    began = time.perf_counter()
    rows = Labeller(spec, ledger)(table)
    lasted = time.perf_counter() - began
    write_and_tell(rows, LabelStore(str(tmp_path / "store")), {}, None, ledger)
    spent = ledger.progress().seconds
    assert spent.keys() == {*STAGES, "device", "worker"}
    assert all(seconds > 0 for seconds in spent.values())
    assert spent["device"] <= spent["decode"] + spent["embed"] + spent["prompts"] + spent["refine"]
    assert spent["device"] < spent["worker"] <= lasted
    assert ledger.progress().memory_bytes["cpu"] > 2**20


@pytest.fixture(scope="module")
def with_head(spec: ModelSpec, tiny_sam: SamBackbone, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = tmp_path_factory.mktemp("heads")
    write_head(folder, "discs", tiny_sam)
    classes = ClassesConfig(score_thresh=0.0, masks=MaskConfig(points_per_side=3))
    return replace(spec, head=str(folder / "discs.safetensors"), config=LabelConfig("classes", classes=classes))


def test_a_class_head_that_was_replaced_stops_the_run(with_head: ModelSpec) -> None:
    facts = model_facts(with_head)
    assert facts.head_sha256 is not None
    labeller = Labeller(replace(with_head, expected=replace(facts, head_sha256="0" * 64)), Ledger())
    with pytest.raises(ConfigurationError, match="the class head changed while the run was going on: sha256"):
        labeller(loaded(good=png((20, 20))))
    assert run(replace(with_head, expected=facts), Ledger(), loaded(good=png((20, 20))))["good"].error is None


def test_mask_embeddings_are_kept_where_that_is_wanted_and_label_alike(with_head: ModelSpec, tmp_path: Path) -> None:
    table = loaded(good=png((48, 32)), noise=b"no image", other=png((20, 40), seed=1))
    plain = run(with_head, Ledger(), table)
    rows = run(replace(with_head, save_embeddings=str(tmp_path / "kept")), Ledger(), table)
    assert [row.labels for row in rows.values()] == [row.labels for row in plain.values()]
    kept = {record.image_id: record for record in load_embeddings(tmp_path / "kept")}
    assert kept.keys() == {"good", "other"}
    assert kept["good"].uri == "/in/good"
    assert all(len(record.embeddings) for record in kept.values())


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes_are_labelled(spec: ModelSpec, size: tuple[int, int]) -> None:
    rows = run(spec, Ledger(), loaded(image=png(size)))
    labels = rows["image"].labels
    assert labels is not None
    assert labels.size_hw == (size[1], size[0])


def test_a_batch_after_a_death_is_done_one_by_one_and_the_guilty_image_is_given_up(spec: ModelSpec) -> None:
    """Each death leaves its starts booked; they are booked here as the workers that died would have."""
    ledger = Ledger()
    assert ledger.begin_batch(["a", "guilty", "b"]) == [0, 0, 0]
    for _ in range(MAX_STARTS - 1):
        ledger.begin_alone("guilty")
    table = loaded(a=png((20, 20)), guilty=png((20, 20)), b=png((20, 20)))
    for _ in range(2):  # a second time, as when the block is redone because of another image
        rows = run(spec, ledger, table)
        assert rows["a"].labels is not None
        assert rows["b"].labels is not None
        assert rows["guilty"].error == "given up: 3 workers died while labelling this image"


def test_the_ledger_forgets_what_came_through_and_counts_it() -> None:
    ledger = Ledger()
    ledger.begin_batch(["a", "b"])
    ledger.finish(["a", "b"], Done(["it is lost"], masks=3, file_bytes=70, seconds={"embed": 2.0}))
    assert ledger.begin_batch(["a", "c"]) == [0, 0]
    ledger.spend({"embed": 1.0, "read": 4.0})
    assert ledger.progress() == Progress(2, 2, {"it is lost": 1}, 3, 70, {"embed": 3.0, "read": 4.0}, {})


def test_a_missing_checkpoint_is_named(spec: ModelSpec) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pth"):
        load_model(ModelSpec("vit_b", "/nowhere.pth", None, "cpu", AMG, LIMITS, 1))


def test_a_checkpoint_that_was_replaced_stops_the_run(spec: ModelSpec) -> None:
    facts = model_facts(spec)
    assert run(replace(spec, expected=facts), Ledger(), loaded(good=png((20, 20))))["good"].labels is not None
    replaced = replace(spec, expected=replace(facts, weights_sha256="0" * 64))
    labeller = Labeller(replaced, Ledger())
    with pytest.raises(ConfigurationError, match="weights of vit_b changed while the run was going on"):
        labeller(loaded(good=png((20, 20))))


def test_parts_are_written_and_summed(spec: ModelSpec, tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    rows = Labeller(spec, Ledger())(loaded(good=png((20, 20)), lost=None))
    (summary,) = write_part(rows, store, {}).to_pylist()
    assert summary_of(summary) == store.summary()
    assert (summary["images"], summary["errors"]) == (2, 1)
