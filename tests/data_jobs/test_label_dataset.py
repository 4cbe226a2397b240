"""The labelling job on real Ray, from one command line to exit code, rows and pictures."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image

from data_jobs.label_dataset import command as main
from data_jobs.labelling.estimate import Estimate
from data_jobs.labelling.estimate import save as save_estimate
from everymask.labels.provenance import read_run
from everymask.labels.rows import ImageRow
from everymask.labels.run_summary import STAGES
from everymask.labels.store import LabelStore
from everymask.masks.rle import decode_mask
from tests.classes.tiny_clip import save_tiny_clip
from tests.data_jobs.coarse import AMG
from tests.full_disk import full_disk

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster"), pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Job:
    """The command with everything but its input and output."""

    checkpoint: Path

    def run(self, *arguments: str | Path) -> int:
        model = ["--model", "vit_b", "--checkpoint", str(self.checkpoint)]
        return main([*model, *AMG, *map(str, arguments)])


@pytest.fixture(scope="module")
def job(tiny_sam_checkpoint: Path) -> Job:
    return Job(tiny_sam_checkpoint)


def draw(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 255, (3, 4, 3), np.uint8)
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(path)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises more pixels than it has."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) for body in (header, b"IDAT")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def rows_of(output: Path | str) -> dict[str, ImageRow]:
    rows = list(LabelStore(str(output)).images())
    assert len({row.image_id for row in rows}) == len(rows)
    return {row.image_id: row for row in rows}


@dataclass(frozen=True)
class FirstRun:
    photos: Path
    output: Path
    code: int
    rows: dict[str, ImageRow]


@pytest.fixture(scope="module")
def first(job: Job, tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """Every row of the table of bad input, among good images; the output lies inside the input."""
    photos = tmp_path_factory.mktemp("job") / "photos"
    for seed, name in enumerate(("a/1.jpg", "b/1.jpg", "2.png", "3.webp", "4.bmp")):
        draw(photos / name, seed)
    draw(photos / "truncated.png", 9, (200, 150))
    (photos / "truncated.png").write_bytes((photos / "truncated.png").read_bytes()[:300])
    (photos / "text.jpg").write_bytes(b"this is no image")
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "bomb.png").write_bytes(png_header(60_000, 60_000))
    (photos / "heavy.tif").write_bytes(b"II*\0" + bytes(50_000))
    Image.new("RGB", (1, 1)).save(photos / "pixel.png")
    Image.new("RGB", (5000, 1), "white").save(photos / "line.png")
    Image.new("RGB", (40, 30)).save(photos / "black.png")
    output = photos / "labels"
    code = job.run("--input", photos, "--output", output, "--limits.max-bytes", "40000", "--max-errors", "3")
    return FirstRun(photos, output, code, rows_of(output))


def test_more_failures_than_allowed_exit_with_3(first: FirstRun) -> None:
    assert first.code == 3


def test_every_image_has_one_row(first: FirstRun) -> None:
    assert sorted(first.rows) == [
        *("2.png", "3.webp", "4.bmp", "a/1.jpg", "b/1.jpg", "black.png", "bomb.png", "empty.jpg", "heavy.tif"),
        *("line.png", "pixel.png", "text.jpg", "truncated.png"),
    ]


def test_bad_input_becomes_a_sentence(first: FirstRun) -> None:
    errors = {name: row.error for name, row in first.rows.items() if row.error}
    assert errors.keys() == {"bomb.png", "empty.jpg", "heavy.tif", "text.jpg", "truncated.png"}
    assert errors["empty.jpg"] == "the file is empty (0 bytes)"
    assert errors["text.jpg"] == "not an image in a known format (it starts with b'this is ')"
    assert str(errors["bomb.png"]).startswith("the image has 60000 x 60000 = 3,600,000,000 pixels, more than")
    assert str(errors["heavy.tif"]).startswith("the file has 50,004 bytes, more than the limit of 40,000")
    assert str(errors["truncated.png"]).startswith("the image is truncated or corrupt")


def test_extreme_images_are_labelled(first: FirstRun) -> None:
    for name, size_hw in (("pixel.png", (1, 1)), ("line.png", (1, 5000)), ("black.png", (30, 40))):
        labels = first.rows[name].labels
        assert labels is not None
        assert labels.size_hw == size_hw


def test_masks_have_the_size_area_and_box_they_say(first: FirstRun) -> None:
    checked = 0
    for row in first.rows.values():
        for mask in row.labels.masks if row.labels else ():
            pixels = decode_mask(mask.rle)
            assert row.labels is not None
            assert pixels.shape == row.labels.size_hw
            assert pixels.sum() == mask.area
            ys, xs = np.nonzero(pixels)
            assert mask.box_xyxy == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            checked += 1
    assert checked > 3


def test_provenance_and_pictures_are_there(first: FirstRun) -> None:
    record = read_run(LabelStore(str(first.output)))
    assert record is not None
    assert record.config["amg"]["points_per_side"] == 4
    assert len(record.config["weights_sha256"]) == 64
    assert record.counts is not None
    assert (record.counts.images, record.counts.errors) == (13, 5)
    assert record.attempts[0].labelled == 13
    assert record.attempts[0].command.startswith("everymask label --input=")
    summary = record.attempts[0].summary
    assert summary is not None
    assert summary["images"] == 13
    assert sum(kind["images"] for kind in summary["errors"]) == 5
    assert {
        "kind": "the file is empty",
        "images": 1,
        "examples": [{"image_id": "empty.jpg", "error": "the file is empty (0 bytes)"}],
    } in summary["errors"]
    assert list(summary["seconds"]) == list(STAGES)
    assert 0 < summary["device_seconds"] < summary["worker_seconds"]
    assert {image["image_id"] for image in summary["slowest"]} <= first.rows.keys()
    page = (first.output / "preview" / "index.html").read_text()
    assert page.count("<figure>") == 8
    assert "the file is empty (0 bytes)" in page
    assert (first.output / "preview" / "contact_sheet.jpg").exists()


def test_run_json_repeats_the_run(first: FirstRun, job: Job) -> None:
    again = main.parse(["--config", str(first.output / "run.json"), "--output", "elsewhere"])
    assert (again.input, again.store.output) == (str(first.photos), "elsewhere")
    assert (again.model.checkpoint, again.labels.method) == (str(job.checkpoint), "amg")
    assert (again.labels.amg.points_per_side, again.limits.max_bytes) == (4, 40000)


def test_another_configuration_is_refused_with_the_difference_named(
    first: FirstRun, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--input", first.photos, "--output", first.output, "--limits.max-bytes", "40000"]
    assert job.run(*arguments, "--amg.points-per-side", "5") == 2
    assert "amg.points_per_side was 4, now 5. Choose another --output, or" in capsys.readouterr().err
    assert rows_of(first.output) == first.rows


def test_a_rerun_labels_what_is_new_and_retries_failures_only_when_asked(first: FirstRun, job: Job) -> None:
    """Last of the tests that use `first`: it changes the store."""
    draw(first.photos / "text.jpg", 20)
    draw(first.photos / "new.png", 21)
    arguments = ["--input", first.photos, "--output", first.output, "--limits.max-bytes", "40000"]
    assert job.run(*arguments, "--keep-changed", "--max-errors", "5") == 0
    rows = rows_of(first.output)
    assert rows.pop("new.png").labels is not None
    assert rows == first.rows

    assert job.run(*arguments, "--retry-failed", "--max-errors", "30%") == 0
    rows = rows_of(first.output)
    assert len(rows) == 14
    assert rows["text.jpg"].labels is not None
    assert {name for name, row in rows.items() if row.error} == {"bomb.png", "empty.jpg", "heavy.tif", "truncated.png"}
    assert {name: rows[name] for name, row in first.rows.items() if row.labels} == {
        name: row for name, row in first.rows.items() if row.labels
    }


def test_overwrite_starts_from_nothing_and_a_list_may_name_what_is_lost(job: Job, tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.png", 1)
    (tmp_path / "list.txt").write_text("in/a.png\nin/lost.png\n")
    output = tmp_path / "out"
    assert job.run("--input", tmp_path / "in", "--output", output, "--previews", "0") == 0
    assert job.run("--input", tmp_path / "list.txt", "--output", output, "--overwrite", "--limit", "2") == 0
    rows = rows_of(output)
    assert rows.keys() == {"in/a.png", "in/lost.png"}
    assert rows["in/lost.png"].error == "the file is not there"


def test_a_large_list_is_labelled_in_shards_and_a_finished_one_starts_no_worker(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("data_jobs.labelling.run.FIRST_SHARD_IMAGES", 2)
    names = [f"{number}.png" for number in range(4)]
    for number, name in enumerate(names):
        draw(tmp_path / name, number)
    (tmp_path / "3.png").write_bytes(b"no image")
    (tmp_path / "list.txt").write_text("\n".join(names))
    output = tmp_path / "out"
    arguments = ["--input", tmp_path / "list.txt", "--output", output, "--shard-images", "3", "--previews", "0"]
    assert job.run(*arguments) == 0
    assert [group.is_sealed for group in LabelStore(str(output)).groups()] == [True, True]
    before = rows_of(output)
    assert sorted(before) == names

    capsys.readouterr()
    assert job.run(*arguments, "--gpus-per-actor", "1") == 0  # there is no GPU here
    assert "0 images labelled" in capsys.readouterr().out
    assert rows_of(output) == before

    draw(tmp_path / "3.png", 3)
    draw(tmp_path / "4.png", 4)
    (tmp_path / "list.txt").write_text("\n".join([*names, "4.png"]))
    save_estimate(LabelStore(str(output)), Estimate(5, 2, 1.0, 0.1, workers=1, gpus_per_worker=0, startup_s=1.0))
    assert job.run(*arguments, "--retry-failed") == 0
    assert "estimated 3 s ± 0 s (1 ± 0.1 s an image), took" in capsys.readouterr().out
    rows = rows_of(output)
    assert rows["3.png"].labels is not None
    assert {name: rows[name] for name in names[:3]} == {name: before[name] for name in names[:3]}
    groups = LabelStore(str(output)).groups()
    assert [(group.is_sealed, group.seal.counts.images) for group in groups if group.seal] == [
        (True, 2),
        (True, 2),
        (True, 1),
    ]


@pytest.mark.parametrize(("room_pages", "where"), [(0, "checkpoint/"), (9, "labels/")])
def test_a_full_disk_is_a_sentence_with_the_path_and_the_same_command_goes_on(
    room_pages: int, where: str, job: Job, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos, disk = tmp_path / "in", tmp_path / "disk"
    disk.mkdir()
    for seed in range(12):
        draw(photos / f"{seed}.png", seed)
    arguments = ["--input", photos, "--output", disk / "out", "--previews", "0", "--batch-size", "1"]
    with full_disk(disk, room_pages) as make_room:
        assert job.run(*arguments) == 2
        said = capfd.readouterr().err
        assert "Traceback" not in said
        assert f"error: cannot write {disk}/out/{where}" in said.splitlines()[-1]
        assert "No space left on device" in said.splitlines()[-1]
        make_room()
        assert job.run(*arguments) == 0
        assert len(rows_of(disk / "out")) == 12


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--input", "nowhere", "--output", "out"], "the input nowhere is not there"),
        (["--input", "empty", "--output", "out"], "the input empty holds no image"),
        (["--input", "in", "--output", "in/a.png/out"], "cannot write"),
        (["--input", "in", "--output", "out", "--checkpoint", "lost.pth"], "checkpoint HERE/lost.pth does not exist"),
        (["--input", "in", "--output", "out", "--actors", "2:1"], "actors must be at least 1, and MIN at most MAX"),
        (["--input", "in", "--output", "out", "--max-errors", "many"], "max-errors must be a number or a percentage"),
        (["--input", "in", "--output", "out", "--method", "classes"], "method classes needs a class head"),
        (["--input", "in", "--output", "out", "--limits.max-pixels", "0"], "max-bytes and max-pixels must be"),
        (["--input", "in", "--output", "out", "--batch-size", "0"], "batch-size must be at least 1; got 0"),
    ],
)
def test_what_cannot_start_exits_with_2_and_a_sentence(
    arguments: list[str],
    sentence: str,
    job: Job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(Path("in/a.png"), 1)
    Path("empty").mkdir()
    assert job.run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith(f"error: {sentence.replace('HERE', str(tmp_path))}")
    assert "Traceback" not in error
    assert not list(Path().glob("out/labels/*"))


def test_images_are_listed_before_the_model_is_loaded_and_nothing_is_deleted_for_one_that_cannot_be(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "in" / "a.png", 1)
    arguments = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--previews", "0"]
    assert job.run(*arguments) == 0
    before = rows_of(tmp_path / "out")
    assert job.run(*arguments, "--gpus-per-actor", "1") == 0  # nothing is left, so no GPU is asked for
    draw(tmp_path / "in" / "b.png", 2)
    assert job.run(*arguments, "--gpus-per-actor", "1") == 2
    capsys.readouterr()
    assert job.run(*arguments, "--overwrite", "--checkpoint", tmp_path / "lost.pth") == 2
    said = capsys.readouterr()
    assert "2 images, 0 labelled before, 2 to label" in said.out
    assert "lost.pth does not exist" in said.err
    assert rows_of(tmp_path / "out") == before


def test_a_bad_flag_exits_with_2(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.run("--input", "x", "--output", "y", "--nonsense") == 2
    assert "nonsense" in capsys.readouterr().err


def test_names_are_labelled_without_exemplars(job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "photos" / "a.png", 1)
    clip = ["--method", "clip", "--clip.model", str(save_tiny_clip(tmp_path))]
    clip += ["--clip.score-thresh", "0", "--actors", "1", "--device", "cpu", "--model", "vit_b"]
    clip += ["--checkpoint", str(job.checkpoint), "--input", str(tmp_path / "photos")]
    output = tmp_path / "labels"
    assert main([*clip, "--output", str(output), "--names", "cat,dog"]) == 0
    labels = rows_of(output)["a.png"].labels
    assert labels is not None
    assert {mask.class_name for mask in labels.masks} <= {"cat", "dog"}
    assert labels.masks
    record = read_run(LabelStore(str(output)))
    assert record is not None
    assert record.config["class_names"] == ["cat", "dog"]
    for names, problem in (("cat", "at least two"), ("cat,cat", "named twice")):
        assert main([*clip, "--output", str(tmp_path / "none"), "--names", names]) == 2
        assert problem in capsys.readouterr().err
    assert main([*clip, "--output", str(tmp_path / "none")]) == 2
    assert "method clip needs names: --names cat,dog" in capsys.readouterr().err


def test_buckets_serve_as_input_and_output(job: Job, tmp_path: Path) -> None:
    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        s3 = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        s3.create_bucket(Bucket="photos")
        for number in range(5):
            draw(tmp_path / "x.png", number)
            s3.upload_file(str(tmp_path / "x.png"), "photos", f"set/{number % 2}/{number}.png")
        s3.put_object(Bucket="photos", Key="set/bad.jpg", Body=b"")
        where = f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        arguments = ["--input", f"s3://photos/set{where}", "--output", f"s3://photos/out{where}"]
        assert job.run(*arguments) == 0
        rows = rows_of(f"s3://photos/out{where}")
        assert sorted(rows) == ["0/0.png", "0/2.png", "0/4.png", "1/1.png", "1/3.png", "bad.jpg"]
        assert rows["bad.jpg"].error == "the file is empty (0 bytes)"
        page = s3.get_object(Bucket="photos", Key="out/preview/index.html")["Body"].read().decode()
        assert page.count("<figure>") == 5
        assert json.loads(s3.get_object(Bucket="photos", Key="out/run.json")["Body"].read())["counts"]["images"] == 6
    finally:
        server.stop()
