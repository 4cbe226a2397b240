"""Columns of tables are found where only one can be meant, and named where several could."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_jobs.labelling.config import LabelDatasetConfig, StoreOptions
from data_jobs.labelling.inputs import list_images
from data_jobs.labelling.model_spec import ModelFacts
from data_jobs.labelling.run_configuration import comparable, run_configuration
from everymask.errors import ConfigurationError
from everymask.images.decoding import ImageLimits
from everymask.images.sources.options import SourceOptions
from tests.images.sources.holding import loaded, picture

ROWS = [{"link": f"{name}.png", "thumb": f"small/{name}.png", "sku": f"no-{name}"} for name in ("a", "b")]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        with path.open("w") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_manifest_s_columns_are_those_the_user_names(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"m.{ending}", ROWS)
    found = list(list_images(str(path), options=SourceOptions("link", "sku")))
    assert [(image.image_id, image.uri) for image in found] == [
        ("no-a", f"{tmp_path}/a.png"),
        ("no-b", f"{tmp_path}/b.png"),
    ]
    (first, _) = list_images(str(path), options=SourceOptions("thumb"))
    assert first.image_id == "small/a.png"


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (SourceOptions(), "no one column of images or their addresses, only link, thumb, sku; say which with --column"),
        (SourceOptions("image"), "no column image, only link, thumb, sku"),
        (SourceOptions("link", "id"), "no id column id, only link, thumb, sku"),
    ],
)
def test_a_column_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, ending: str, options: SourceOptions, problem: str
) -> None:
    path = write(tmp_path / f"m.{ending}", ROWS)
    with pytest.raises(ConfigurationError) as refused:
        list(list_images(str(path), options=options))
    assert str(refused.value) == f"the manifest {path} has {problem}"


def test_addresses_are_found_by_the_names_they_usually_have(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", [{"url": "https://example.org/1.jpg", "caption": "x"}])
    assert [image.uri for image in list_images(str(path))] == ["https://example.org/1.jpg"]
    both = write(tmp_path / "n.csv", [{"url": "1.jpg", "image": "2.jpg"}])
    with pytest.raises(ConfigurationError, match="several columns of addresses, image, url; say which with --column"):
        list(list_images(str(both)))


def test_of_several_columns_of_bytes_the_named_one_is_read(tmp_path: Path) -> None:
    rows = [{"left": picture(n), "right": picture(10 + n), "n": n, "name": f"pair {n}"} for n in range(3)]
    path = write(tmp_path / "in" / "t.parquet", rows)
    (refused,) = list_images(str(tmp_path / "in"))
    assert refused.error == "the file has several columns of bytes, left, right; say which with --column"
    images = list(list_images(str(path), options=SourceOptions("right", "n")))
    assert loaded(images, tmp_path) == [(f"t.parquet/{n}", None, picture(10 + n)) for n in range(3)]
    (missing,) = list_images(str(tmp_path / "in"), options=SourceOptions("middle"))
    assert missing.error == "the file has no column middle, only left, right, n, name"
    (no_image,) = list_images(str(tmp_path / "in"), options=SourceOptions("n"))
    assert no_image.error == "the file has a column n of int64, neither bytes nor addresses of images"


def test_another_column_is_another_run_and_no_column_is_a_run_of_before() -> None:
    facts = ModelFacts("nano", "cpu", "w", None, None)
    job = LabelDatasetConfig("in.parquet", StoreOptions("out"))

    def configuration(*names: str) -> dict[str, Any]:
        return run_configuration("in.parquet", job.label_config(), facts, ImageLimits(), SourceOptions(*names))

    assert "sources" not in configuration()
    assert comparable(configuration("left"), configuration("right")) != configuration("right")
    assert comparable(configuration(), configuration("left")) != configuration("left")
    assert comparable(configuration("left"), configuration("left")) == configuration("left")
