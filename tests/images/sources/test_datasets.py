"""Hugging Face data sets: what `save_to_disk` leaves on a disk, and `hf://datasets/NAME` on a hub of our own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from data_jobs.labelling.inputs import list_images
from data_jobs.labelling.skipped import Skipped
from everymask.images.files import read_members
from tests.formats.readers.environments import python_of
from tests.images.sources.holding import ANYTHING, LIMITS, huggingface, ids, listed, loaded, picture, saved
from tests.images.sources.hub import hub
from tests.machine import REPOSITORY


def test_a_row_of_a_saved_data_set_is_one_range_of_its_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "in", "train", range(10))
    (path.parent / "cache-0a1b.arrow").write_bytes(path.read_bytes())
    skipped = Skipped()
    images = list(list_images(str(tmp_path / "in"), None, skipped))
    assert [image.image_id for image in images] == [f"train/{path.name}/{row}" for row in range(10)]
    assert [data for _, _, data in loaded(images, tmp_path)] == [picture(number) for number in range(10)]
    assert "1 caches of data sets" in str(skipped)
    member = images[7].member
    assert member is not None
    assert path.read_bytes()[member.offset : member.offset + member.size] == picture(7)
    assert read_members(str(path), [member], LIMITS, ANYTHING) == [picture(7)]


def test_a_saved_row_without_bytes_is_opened_by_its_path_or_says_so(tmp_path: Path) -> None:
    (tmp_path / "in" / "train").mkdir(parents=True)
    (tmp_path / "in" / "train" / "there.png").write_bytes(picture(1))
    images = pa.array(
        [{"bytes": None, "path": "there.png"}, {"bytes": picture(2), "path": None}, None],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    path = tmp_path / "in" / "train" / "x.arrow"
    table = pa.table({"image": images, "id": ["a", "b", "c"]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:  # Arrow's other kind
        writer.write_table(table)
    found = loaded(listed(f"{tmp_path}/in/**/*.arrow"), tmp_path)
    assert found == [
        ("train/x.arrow/a", None, picture(1)),
        ("train/x.arrow/b", None, picture(2)),
        ("train/x.arrow/c", "the row holds no bytes", None),
    ]


def test_a_parquet_file_that_only_names_its_images_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "one.png").write_bytes(picture(1))
    images = pa.array(
        [{"bytes": None, "path": str(tmp_path / "one.png")}], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    pa.parquet.write_table(pa.table({"image": images}), tmp_path / "in" / "t.parquet")
    assert loaded(listed(tmp_path / "in"), tmp_path) == [("t.parquet/0", None, picture(1))]


@pytest.mark.parametrize(("keep", "readable"), [(0, 0), (300, 0), (0.6, 4)])
def test_a_saved_file_that_is_cut_short_gives_what_there_is_and_one_row(
    tmp_path: Path, keep: float, readable: int
) -> None:
    path = saved(tmp_path / "in", "train", range(10))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep > 1 else len(content) * keep)])
    *images, rest = listed(path)
    assert [data for _, _, data in loaded(images, tmp_path)] == [picture(number) for number in range(readable)]
    assert (rest.image_id, rest.member) == (path.name, None)
    assert rest.error is not None
    assert ("cut short or damaged" if readable else "no Arrow file") in rest.error


def test_a_packed_arrow_file_is_one_row(tmp_path: Path) -> None:
    table = pa.table({"image": [picture(1)]})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema, options=options) as to,
    ):
        to.write_table(table)
    (row,) = listed(tmp_path / "x.arrow")
    assert row.error is not None
    assert "save it without compression" in row.error


def in_a_process(location: str, **environment: str) -> dict[str, str]:
    """{image id: digest}, from a process of its own: the hub's address is read when its package is imported."""
    command = [sys.executable, "-m", "tests.images.sources.places", location]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def digests(numbers: range, name: str) -> dict[str, str]:
    return {name.format(number): hashlib.sha256(picture(number)).hexdigest() for number in numbers}


def test_a_data_set_of_the_hub_is_read_where_it_is(tmp_path: Path) -> None:
    huggingface(tmp_path / "set" / "data" / "train-00000-of-00001.parquet", range(20))
    (tmp_path / "set" / "README.md").write_text("a card")
    with hub("some/flowers", tmp_path / "set") as (address, asked):
        found = in_a_process(
            "hf://datasets/some/flowers", HF_ENDPOINT=address, HF_HOME=str(tmp_path / "home"), HF_HUB_OFFLINE="0"
        )
    assert found == digests(range(20), "data/train-00000-of-00001.parquet/{}")
    assert all("bytes=" in line for line in asked if line.startswith("GET /datasets/")), "whole files were fetched"


_WRITE = """
import io, sys
from datasets import Dataset, DatasetDict, Features, Image, Value
from pathlib import Path
pictures, out = Path(sys.argv[1]), sys.argv[2]
files = sorted(pictures.iterdir())
rows = [{"image": {"bytes": file.read_bytes(), "path": None}, "name": file.stem} for file in files]
table = Dataset.from_list(rows, features=Features({"image": Image(), "name": Value("string")}))
both = DatasetDict({"train": table, "test": table.select(range(2))})
both.save_to_disk(out + "/saved", num_shards={"train": 3, "test": 1})
table.to_parquet(out + "/parquet/train.parquet")
linked = Dataset.from_dict({"image": list(map(str, files))}).cast_column("image", Image())
linked.save_to_disk(out + "/linked")
"""


@pytest.mark.slow
def test_what_datasets_writes_is_read(tmp_path: Path) -> None:
    python = python_of("trainers")
    (tmp_path / "pictures").mkdir()
    for number in range(9):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(picture(number))
    (tmp_path / "parquet").mkdir()
    subprocess.run(
        [python, "-c", _WRITE, tmp_path / "pictures", tmp_path],
        check=True,
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        timeout=240,
    )
    assert sorted(ids(tmp_path / "saved")) == sorted(
        [f"train/data-0000{shard}-of-00003.arrow/{row}" for shard in range(3) for row in range(3)]
        + [f"test/data-00000-of-00001.arrow/{row}" for row in range(2)]
    )
    for name, count in (("saved/train", 9), ("parquet", 9), ("linked", 9)):
        images = listed(tmp_path / name)
        assert [data for _, _, data in loaded(images, tmp_path)] == [picture(number) for number in range(count)]
