"""A folder like those that the documents speak of: photographs, exemplars, tables, clips, and a bucket."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

from everymask.classes.shipped import head_file
from tests.classes.exemplars.pictures import picture_file
from tests.documents.fenced import REPOSITORY
from tests.images.sources.films import film
from tests.images.sources.holding import huggingface, samples, saved, shard

_EXEMPLARS_EACH = 4
_PHOTOS = ("astronaut.jpg", "cat.webp", "coffee.jpg")


@dataclass(frozen=True)
class Bucket:
    """A bucket called `bucket` on a loopback server."""

    host: str
    port: int

    def upload(self, path: Path, key: str) -> None:
        client = boto3.client("s3", endpoint_url=f"http://{self.host}:{self.port}", region_name="us-east-1")
        client.upload_file(str(path), "bucket", key)

    def asked(self, command: str) -> str:
        """A command whose addresses in the bucket name the loopback server."""
        where = f"?endpoint_override={self.host}:{self.port}&scheme=http&region=us-east-1"
        return re.sub(r'"?(s3://bucket[^\s"]*)"?', rf'"\1{where}"', command)


@contextmanager
def bucket() -> Iterator[Bucket]:
    """An empty one, until the block ends."""
    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        client.create_bucket(Bucket="bucket")
        yield Bucket(host, port)
    finally:
        server.stop()


def furnish(folder: Path) -> None:
    """Put what the documents take for granted into a folder: pictures of the user's, exemplars and a class head."""
    shutil.copytree(REPOSITORY / "examples", folder / "examples")
    shutil.copy(REPOSITORY / "README.md", folder)
    for name in _PHOTOS:
        (folder / "photos").mkdir(exist_ok=True)
        shutil.copy(folder / "examples/images" / name, folder / "photos")
    for place in ("exemplars", "runs/exemplars"):
        for number, name in enumerate(("cat", "dog", "horse", "person")):
            (folder / place / name).mkdir(parents=True)
            for picture in range(_EXEMPLARS_EACH):
                data = picture_file(_EXEMPLARS_EACH * number + picture)
                (folder / place / name / f"{picture}.jpg").write_bytes(data)
    shutil.copy(head_file("everyday"), folder / "runs/pets.safetensors")


def furnish_tables(folder: Path) -> None:
    """Parquet, a saved data set, and a table of a shop's own columns."""
    huggingface(folder / "data/train-00000.parquet", range(3))
    saved(folder / "saved", "train", range(3))
    with (folder / "products.csv").open("w", newline="") as file:
        rows = [["photo_url", "sku"], *([str(folder / "photos" / name), f"A-{name}"] for name in _PHOTOS)]
        csv.writer(file).writerows(rows)


def furnish_clips(folder: Path, bucket: Bucket) -> None:
    """Films in a folder, beside photographs, and in the bucket."""
    film(folder / "clips/walk.mp4")
    film(folder / "clips/run.mov")
    shutil.copytree(folder / "photos", folder / "phone")
    shutil.copy(folder / "clips/run.mov", folder / "phone")
    bucket.upload(folder / "clips/walk.mp4", "clips/walk.mp4")


def furnish_bucket(folder: Path, bucket: Bucket) -> None:
    """Photographs, and tar shards of small pictures."""
    for path in (folder / "photos").iterdir():
        bucket.upload(path, f"photos/{path.name}")
    for number in range(2):
        name = f"train-{number:06d}.tar"
        bucket.upload(shard(folder / name, samples(3 * number, 3)), name)
