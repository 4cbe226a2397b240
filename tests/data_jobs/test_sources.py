"""One job over every kind of file that holds images; the library, an export and browse open each image again."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from browse.collection import Collection
from browse.pictures import Pictures
from data_jobs.label_dataset import command as main
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits, decode_image
from everymask.images.files import read_labelled_bytes
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore
from tests.data_jobs.coarse import AMG
from tests.formats.exporting import run_export
from tests.images.sources.films import film, needs_ffmpeg
from tests.images.sources.holding import animation, huggingface, multipage, picture, samples, saved, shard
from tests.images.sources.hub import hub
from tests.machine import REPOSITORY

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster"), pytest.mark.timeout(900), needs_ffmpeg]

IMAGES = {
    "tar": ["shard.tar/0000", "shard.tar/0001"],
    "tar.gz": ["packed.tar.gz/0002", "packed.tar.gz/0003"],
    "Parquet": ["table.parquet/0", "table.parquet/1"],
    "save_to_disk": ["saved/train/data-00000-of-00001.arrow/0", "saved/train/data-00000-of-00001.arrow/1"],
    "video": ["clip.mp4/0", "clip.mp4/2000"],
    "pages": ["scan.tif/0", "scan.tif/1", "moving.gif/0", "moving.gif/1"],
    "loose": ["one.png"],
}


@dataclass(frozen=True)
class Labelled:
    folder: Path
    store: LabelStore
    rows: dict[str, ImageRow]


@pytest.fixture(scope="module")
def labelled(tiny_sam_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    folder = tmp_path_factory.mktemp("sources") / "in"
    shard(folder / "shard.tar", samples(0, 2))
    shard(folder / "packed.tar.gz", samples(2, 2))
    huggingface(folder / "table.parquet", range(4, 6))
    saved(folder / "saved", "train", range(6, 8))
    film(folder / "clip.mp4")
    (folder / "one.png").write_bytes(picture(8))
    multipage(folder / "scan.tif", "RGB", 2)
    animation(folder / "moving.gif")
    output = folder.parent / "labels"
    model = ["--model", "vit_b", "--checkpoint", str(tiny_sam_checkpoint), *AMG]
    assert main([*model, "--input", f"{folder}/**/*[!n]", "--output", str(output), "--frames", "2", "--all-pages"]) == 0
    store = LabelStore(str(output))
    return Labelled(folder, store, {row.image_id: row for row in store.images()})


def test_every_image_of_every_source_has_a_row(labelled: Labelled) -> None:
    assert sorted(labelled.rows) == sorted(image_id for ids in IMAGES.values() for image_id in ids)
    assert [row.error for row in labelled.rows.values()] == [None] * len(labelled.rows)


@pytest.mark.parametrize("source", IMAGES)
def test_an_image_is_opened_again_by_the_library_and_by_browse(labelled: Labelled, source: str, tmp_path: Path) -> None:
    policy = AddressPolicy(trusted=(str(labelled.folder),))
    collection = Collection(labelled.store, tmp_path / "cache")
    collection.renew()
    pictures = Pictures(labelled.store, policy, ImageLimits(), tmp_path / "thumbnails")
    for image_id in IMAGES[source]:
        row = labelled.rows[image_id]
        data = read_labelled_bytes(row.uri, row.content_sha256, ImageLimits(), policy, row.member)
        assert row.labels is not None
        assert decode_image(data).shape[:2] == row.labels.size_hw
        looked = collection.look(image_id)
        assert pictures.bytes_of(looked) == data
        assert decode_image(pictures.thumbnail(looked, "s", masks=True)).shape[:2] == row.labels.size_hw


def test_an_export_copies_every_image(labelled: Labelled, tmp_path: Path) -> None:
    run_export(
        labelled.store,
        "coco-folders",
        tmp_path / "out",
        images="copy",
        policy=AddressPolicy(trusted=(str(labelled.folder),)),
    )
    (annotations,) = (tmp_path / "out").glob("annotations/*.json")
    names = [image["file_name"] for image in json.loads(annotations.read_text())["images"]]
    copies = {file.name: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.name in names}
    found = {hashlib.sha256(data).hexdigest() for data in copies.values()}
    assert found == {row.content_sha256 for row in labelled.rows.values()}
    assert all(np.asarray(decode_image(data)).size for data in copies.values())


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl.gz"])
def test_a_table_of_addresses_is_labelled_and_opened_again(
    tiny_sam_checkpoint: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one.png").write_bytes(picture(1))
    (tmp_path / "in" / "two.png").write_bytes(picture(2))
    rows = [{"uri": "one.png", "image_id": "first"}, {"uri": str(tmp_path / "in" / "two.png"), "image_id": "second"}]
    if name.endswith(".csv"):
        text = "".join(f"{row['uri']},{row['image_id']}\n" for row in rows)
        (tmp_path / "in" / name).write_text(f"uri,image_id\n{text}")
    else:
        (tmp_path / "in" / name).write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    model = ["--model", "vit_b", "--checkpoint", str(tiny_sam_checkpoint), *AMG]
    assert main([*model, "--input", str(tmp_path / "in" / name), "--output", str(tmp_path / "labels")]) == 0
    found = {row.image_id: row for row in LabelStore(str(tmp_path / "labels")).images()}
    policy = AddressPolicy(trusted=(str(tmp_path / "in"),))
    opened = {
        key: read_labelled_bytes(row.uri, row.content_sha256, ImageLimits(), policy) for key, row in found.items()
    }
    assert opened == {"first": picture(1), "second": picture(2)}


REOPEN = """
import json, sys
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.images.files import read_labelled_bytes
from everymask.labels.store import LabelStore

def opened(row):
    policy = AddressPolicy.for_input(sys.argv[2])
    return read_labelled_bytes(row.uri, row.content_sha256, ImageLimits(), policy, row.member).hex()

print(json.dumps({row.image_id: opened(row) for row in LabelStore(sys.argv[1]).images()}))
"""


@pytest.mark.slow
def test_a_data_set_of_the_hub_is_labelled_and_opened_again(tiny_sam_checkpoint: Path, tmp_path: Path) -> None:
    huggingface(tmp_path / "set" / "data" / "train-00000-of-00001.parquet", range(2))
    given, output = "hf://datasets/some/flowers", str(tmp_path / "labels")
    job = [sys.executable, str(REPOSITORY / "data_jobs" / "label_dataset.py"), "--input", given, "--output", output]
    job += ["--model", "vit_b", "--checkpoint", str(tiny_sam_checkpoint), *AMG]
    with hub("some/flowers", tmp_path / "set") as (address, _):
        # In processes of their own: the hub's address is read when its package is imported.
        environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "RAY_ADDRESS": "local"}
        environment |= {"PYTHONPATH": str(REPOSITORY)}
        subprocess.run(job, env=environment, check=True, timeout=600)
        reopen = [sys.executable, "-c", REOPEN, output, given]
        said = subprocess.run(reopen, env=environment, check=True, timeout=300, capture_output=True, text=True).stdout
    assert sorted(map(bytes.fromhex, json.loads(said).values())) == sorted([picture(0), picture(1)])
