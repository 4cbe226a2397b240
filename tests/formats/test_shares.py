"""An export written in shares is the export, whoever writes them, in whatever order, and after an interruption."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from everymask.errors import ConfigurationError, InputError
from everymask.files.addresses import AddressPolicy
from everymask.formats.format import Ended, Format
from everymask.formats.processes import write_here, write_in_processes
from everymask.formats.registry import FORMATS
from everymask.formats.shares import Job, Share, Told
from everymask.labels.store import LabelStore
from everymask.masks.rle import encode_mask
from tests.formats.exporting import Stop, contents, options_with_images, picture_store, run_export
from tests.labels.examples import mask_record

A_SHARE, SHARES = 64, 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LabelStore:
    """Two parts of as many images as a share has."""
    return picture_store(tmp_path_factory.mktemp("shares"), SHARES * A_SHARE, SHARES)


def backwards(job: Job, chosen: Format, shares: Iterable[Share], done: Callable[[int], None]) -> Iterator[Told]:
    """Writes the last share first."""
    return write_here(job, chosen, reversed(list(shares)), done)


@pytest.mark.parametrize("name", FORMATS)
def test_the_order_of_shares_does_not_matter(store: LabelStore, tmp_path: Path, name: str) -> None:
    reports = []
    for folder, write_shares in (("forwards", write_here), ("backwards", backwards)):
        output = tmp_path / folder / f"labels{FORMATS[name].suffix}"
        reports.append(run_export(store, name, output, write_shares=write_shares, **options_with_images(name)))
    assert reports[0].lines()[:-1] == reports[1].lines()[:-1]
    assert reports[0].images == A_SHARE * SHARES
    first, second = contents(tmp_path / "forwards"), contents(tmp_path / "backwards")
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] != second[path]] == []
    assert not [path for path in first if "shares" in path or path.endswith(".spool")]


def test_the_report_of_a_finished_share_is_read_again_as_it_was(tmp_path: Path) -> None:
    whole, corner = np.ones((9, 12), bool), np.zeros((9, 12), bool)
    corner[:3, :4] = True
    told = Told(7, images=2, turned=1, names={0: "cat", 4: "dog"}, ended=Ended({"train": 2}, {"train": 999}))
    told.loss.add("a.png", [mask_record(whole, 0.9)] * 2, [encode_mask(corner)] * 2, overlaps_kept=False)
    told.counts.add("train", ["cat", "cat", "dog"])
    told.counts.add("val", ["dog"])
    assert Told.kept(tmp_path / "none.json") is None
    told.keep(tmp_path / "7.json")
    assert Told.kept(tmp_path / "7.json") == told
    assert [path.name for path in tmp_path.iterdir()] == ["7.json"]


def test_processes_write_what_one_process_writes(store: LabelStore, tmp_path: Path) -> None:
    seen: list[int] = []
    report = run_export(store, "coco", tmp_path / "one" / "labels.json")
    again = run_export(
        store,
        "coco",
        tmp_path / "two" / "labels.json",
        write_shares=write_in_processes(2),
        progress=lambda done, total: seen.append(done),
    )
    assert again == report
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert seen[-1] == A_SHARE * SHARES


def test_an_error_in_a_process_is_the_exports_and_nothing_is_left(store: LabelStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be put into the export"):
        run_export(
            store, "yolo", tmp_path / "yolo", images="copy", policy=AddressPolicy(), write_shares=write_in_processes(2)
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["coco", "yolo", "huggingface"])
def test_an_export_that_was_interrupted_goes_on(store: LabelStore, tmp_path: Path, name: str) -> None:
    output = tmp_path / f"labels{FORMATS[name].suffix}"
    with pytest.raises(KeyboardInterrupt):
        run_export(store, name, output, progress=Stop(A_SHARE + 5), **options_with_images(name))
    assert not output.exists()
    again = Stop(10**9)
    run_export(store, name, output, progress=again, **options_with_images(name))
    assert again.first == A_SHARE
    run_export(store, name, tmp_path / "whole" / output.name, **options_with_images(name))
    whole = contents(tmp_path / "whole")
    found = {path: data for path, data in contents(tmp_path).items() if not path.startswith("whole/")}
    assert found == whole


def test_the_old_export_stays_until_the_new_one_is_whole(store: LabelStore, tmp_path: Path) -> None:
    output = tmp_path / "labels.json"
    run_export(store, "coco", output)
    before = output.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        run_export(store, "coco", output, progress=Stop(A_SHARE + 5), overwrite=True, segmentation="polygon")
    assert output.read_bytes() == before
    other = Stop(10**9)
    run_export(store, "coco", output, progress=other, overwrite=True, segmentation="uncompressed")
    assert other.first == 1, "what was asked for is another export, and the interrupted one is tidied"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_part_that_is_replaced_meanwhile_is_found_again(store: LabelStore, tmp_path: Path) -> None:
    part = store.parts()[-1]
    renamed = part.path.replace(part.name, f"part-{'f' * 32}.parquet")

    def seal(done: int, total: int) -> None:
        if done == 1:
            Path(part.path).rename(renamed)

    try:
        report = run_export(store, "coco", tmp_path / "labels.json", progress=seal)
    finally:
        Path(renamed).rename(part.path)
    assert report.images == A_SHARE * SHARES


@pytest.mark.parametrize("name", ["coco", "cvat", "label-studio"])
def test_numbered_files_hold_every_image_once(store: LabelStore, tmp_path: Path, name: str) -> None:
    run_export(store, name, tmp_path / f"whole{FORMATS[name].suffix}")
    size = (tmp_path / f"whole{FORMATS[name].suffix}").stat().st_size
    run_export(store, name, tmp_path / "many", file_mib=size / 2**20 / 4)
    index = json.loads((tmp_path / "many" / "index.json").read_text())
    assert 4 <= len(index["files"]) <= 6
    assert sum(file["images"] for file in index["files"]) == index["images"] == A_SHARE * SHARES
    found = []
    for file in index["files"]:
        path = tmp_path / "many" / file["file"]
        assert path.stat().st_size < size / 2
        text = path.read_text()
        if name != "cvat":
            listed = json.loads(text)
            ids = (
                [image["file_name"] for image in listed["images"]]
                if name == "coco"
                else [task["data"]["image_id"] for task in listed]
            )
            assert (ids[0], ids[-1]) == (file["first_image_id"], file["last_image_id"])
            found += ids
        else:
            assert f"<size>{file['images']}</size>" in text
            found += re.findall(r'<image id="\d+" name="([^"]+)"', text)
    assert found == [f"{number:03d}.png" for number in range(A_SHARE * SHARES)]


def test_formats_of_many_files_have_no_numbered_ones(store: LabelStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="leave out --file-mib"):
        run_export(store, "yolo", tmp_path / "yolo", file_mib=1)


def test_parquet_files_of_all_shares_are_numbered_through(store: LabelStore, tmp_path: Path) -> None:
    run_export(store, "huggingface", tmp_path / "hf", write_shares=backwards, **options_with_images("huggingface"))
    files = sorted(path.name for path in (tmp_path / "hf" / "data").iterdir())
    assert files == [f"{split}-{number:05d}.parquet" for split in ("train", "val") for number in range(SHARES)]
    rows = sum(pq.read_metadata(tmp_path / "hf" / "data" / file).num_rows for file in files)
    assert rows == A_SHARE * SHARES
