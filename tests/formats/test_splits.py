"""Splits: stable, without leaks, counted; in every format that has them."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_jobs import export_labels
from everymask.errors import ConfigurationError, InputError
from everymask.files.addresses import AddressPolicy
from everymask.formats.export import ExportReport
from everymask.formats.near_duplicates import alike, thumbnail
from everymask.formats.registry import FORMATS
from everymask.formats.splits import SplitCounts, SplitOptions, plan_splits
from everymask.images.decoding import ImageLimits
from everymask.labels.provenance import RunRecord, write_run
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from tests.formats.exporting import run_export
from tests.labels.examples import labels

THIRDS = SplitOptions((1.0, 1.0, 1.0))
WITH_SPLITS = [name for name, item in FORMATS.items() if item.has_splits]


def picture(seed: int) -> Image.Image:
    """A picture like no other."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((60, 40), Image.Resampling.BICUBIC)


def add(store: LabelStore, folder: Path, pictures: dict[str, Image.Image]) -> None:
    """Write pictures and a part of the store with their rows."""
    folder.mkdir(exist_ok=True)
    rows = []
    for name, image in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append(ImageRow(name, str(path), labels(classes=True), None, digest))
    store.write_part(to_table(rows), {"input": str(folder)})


def planned(store: LabelStore, options: SplitOptions = THIRDS) -> dict[str, str]:
    """The split of every image of a store."""
    ids = [image.image_id for image in store.images()]
    return plan_splits(store, ids, options, ImageLimits(), AddressPolicy(any_local_file=True)).of


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    """Thirty pictures, no two alike."""
    store = LabelStore(str(tmp_path / "store"))
    add(store, tmp_path / "pictures", {f"{seed:02d}.png": picture(seed) for seed in range(30)})
    return store


def test_adding_images_moves_none(store: LabelStore, tmp_path: Path) -> None:
    before = planned(store)
    assert set(before.values()) == {"train", "val", "test"}
    add(store, tmp_path / "pictures", {f"more/{seed}.png": picture(seed) for seed in range(100, 130)})
    after = planned(store)
    assert {image_id: after[image_id] for image_id in before} == before
    assert len(after) == 60


def test_near_duplicates_and_copies_stay_together(store: LabelStore, tmp_path: Path) -> None:
    variants: dict[str, Image.Image] = {}
    for seed in range(30):
        variants[f"small/{seed}.jpg"] = picture(seed).resize((48, 32))
        variants[f"copy/{seed}.png"] = picture(seed)
    add(store, tmp_path / "pictures", variants)
    splits = planned(store)
    for seed in range(30):
        assert len({splits[f"{seed:02d}.png"], splits[f"small/{seed}.jpg"], splits[f"copy/{seed}.png"]}) == 1
    assert len(set(splits.values())) == 3


def test_frames_of_one_video_stay_together(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "store"))
    rows = [
        ImageRow(f"{clip}.mp4/{frame}", f"/videos/{clip}.mp4", labels(), None, f"{clip:032d}{frame:032d}")
        for clip in range(12)
        for frame in range(5)
    ]
    store.write_part(to_table(rows))
    splits = planned(store)
    for clip in range(12):
        assert len({splits[f"{clip}.mp4/{frame}"] for frame in range(5)}) == 1
    assert len(set(splits.values())) > 1


def test_folders_and_columns_may_say_what_stays_together(store: LabelStore, tmp_path: Path) -> None:
    add(store, tmp_path / "pictures", {f"{seed % 9}/{seed}.png": picture(seed) for seed in range(200, 260)})
    splits = planned(store, SplitOptions(THIRDS.shares, by="folder"))
    for folder in range(9):
        assert len({split for image_id, split in splits.items() if image_id.startswith(f"{folder}/")}) == 1
    assert len(set(planned(store, SplitOptions(THIRDS.shares, by="width")).values())) == 1
    with pytest.raises(ConfigurationError, match="no such column, only image_id, uri"):
        planned(store, SplitOptions(THIRDS.shares, by="patient"))


def test_a_store_without_a_row_has_no_column_to_split_by(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "store"))
    write_run(store, RunRecord({}))
    assert planned(store) == {}
    with pytest.raises(ConfigurationError, match="no such column"):
        planned(store, SplitOptions(THIRDS.shares, by="width"))


def split_file(path: Path, rows: Sequence[Sequence[str]]) -> str:
    """A CSV file of splits."""
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("image_id", "split"), *rows])
    return str(path)


def test_a_file_decides_and_shares_fill_its_gaps(store: LabelStore, tmp_path: Path) -> None:
    before = planned(store)
    moved = {"00.png": "test", "01.png": "train", "02.png": "held_out"}
    file = split_file(tmp_path / "splits.csv", list(moved.items()))
    with pytest.raises(ConfigurationError, match="names no split for 27 images"):
        planned(store, SplitOptions(file=file))
    assert planned(store, SplitOptions(THIRDS.shares, file=file)) == before | moved
    # A near-duplicate follows the image that is listed.
    add(store, tmp_path / "pictures", {"again.png": picture(2)})
    assert planned(store, SplitOptions(THIRDS.shares, file=file))["again.png"] == "held_out"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("00.png,train\n", "no CSV file with the columns"),
        ("image_id,split\n00.png\n", "no CSV file with the columns"),
        ("image_id,split\n00.png,../up\n", "names a split '../up'"),
    ],
)
def test_a_file_that_is_none_is_one_sentence(store: LabelStore, tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(InputError, match=problem):
        planned(store, SplitOptions(file=str(tmp_path / "splits.csv")))


@pytest.mark.parametrize("shares", ["0.8/0.2/0/0", "0.8,0.2", "1/-1", "nan", ""])
def test_shares_that_are_none_are_one_sentence(shares: str) -> None:
    with pytest.raises(ConfigurationError, match="positive numbers"):
        SplitOptions.parse(shares, None, None)


def exported(store: LabelStore, name: str, folder: Path) -> ExportReport:
    """An export in thirds, with images where the format takes them."""
    return run_export(store, name, folder, split=THIRDS, images="copy")


@pytest.mark.parametrize("name", WITH_SPLITS)
def test_every_format_with_splits_counts_and_pins_them(store: LabelStore, tmp_path: Path, name: str) -> None:
    report = exported(store, name, tmp_path / "out")
    with (tmp_path / "out" / "splits.csv").open() as stream:
        listed = dict(list(csv.reader(stream))[1:])
    assert listed == planned(store)
    counts = {split: list(listed.values()).count(split) for split in ("train", "val", "test")}
    (line,) = [note for note in report.notes if note.startswith("  images")]
    assert line.split() == ["images", *(str(item) for pair in counts.items() for item in pair)]
    assert not any(note.startswith("missing") for note in report.notes)


def test_a_class_that_a_split_lacks_is_named(store: LabelStore, tmp_path: Path) -> None:
    rows = [ImageRow("none.png", "none.png", labels(), None, "ab" * 32)]
    other = LabelStore(str(tmp_path / "other"))
    other.write_part(to_table([*rows, ImageRow("some.png", "some.png", labels(classes=True), None, "cd" * 32)]))
    file = split_file(tmp_path / "splits.csv", [("none.png", "val"), ("some.png", "train")])
    with pytest.raises(ConfigurationError, match="mixes class heads"):
        run_export(other, "yolo", tmp_path / "mixed", split=SplitOptions(file=file))
    add(store, tmp_path / "pictures", {"x.png": picture(77)})
    single = split_file(tmp_path / "one.csv", [("00.png", "val"), *((f"{n:02d}.png", "train") for n in range(1, 30))])
    report = run_export(
        store, "yolo", tmp_path / "yolo", split=SplitOptions((1.0,), file=single), image_ids=frozenset({"01.png"})
    )
    assert "  images  train 1" in report.notes


def test_counts_name_what_a_split_lacks_and_pass_over_what_no_image_shows() -> None:
    counts = SplitCounts()
    for split, names in (("train", ["cat", "cat", "dog"]), ("val", ["cat"])):
        counts.add(split, names)
    assert counts.lines(["train", "val"], ["cat", "dog", "giraffe", "boat"]) == [
        "splits:",
        "  images  train 1  val 1",
        "  cat     train 2  val 1",
        "  dog     train 1  val 0",
        "missing: no dog in val",
        "in no image: giraffe, boat",
    ]


@pytest.mark.parametrize("name", ["coco-folders", "huggingface"])
def test_the_next_line_names_a_script_that_is_there(
    store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    report = run_export(store, name, tmp_path / "out", images="copy")
    program, script, output = report.lines()[-1].removeprefix("next: ").split()
    assert (program, Path(script).is_file(), output) == ("python", True, str(tmp_path / "out"))


def test_yolo_keeps_splits_in_folders(store: LabelStore, tmp_path: Path) -> None:
    exported(store, "yolo", tmp_path / "yolo")
    for split in ("train", "val", "test"):
        images = {path.stem for path in (tmp_path / "yolo" / "images" / split).iterdir()}
        assert images == {path.stem for path in (tmp_path / "yolo" / "labels" / split).iterdir()}
        assert images
    assert (
        (tmp_path / "yolo" / "data.yaml")
        .read_text()
        .startswith("train: images/train\nval: images/val\ntest: images/test\nnc: 2\n")
    )


def test_a_format_without_splits_says_so(store: LabelStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="label-studio has no splits"):
        run_export(store, "label-studio", tmp_path / "tasks.json", split=THIRDS)


def test_the_command_takes_splits(store: LabelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--labels", store.uri, "--format", "yolo", "--output", str(tmp_path / "yolo"), "--split", "8/1/1"]
    assert export_labels.command(arguments) == 0
    printed = capsys.readouterr().out
    assert "\nsplits:\n  images  train " in printed
    assert printed.splitlines()[-1].startswith("next: yolo segment train data=")
    assert (tmp_path / "yolo" / "images" / "train").is_dir()


def test_flat_pictures_of_other_colours_are_not_alike() -> None:
    flat = [np.full((20, 30, 3), value, dtype=np.uint8) for value in (0, 3, 90, 200)]
    assert alike([thumbnail(image) for image in flat]) == [0, 0, 2, 3]
