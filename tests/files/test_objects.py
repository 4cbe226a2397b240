"""Buckets are asked as rarely as can be: one GET an image, one PUT a part."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pytest

from data_jobs.labelling.stages import load_bytes
from everymask.errors import InputError, OutputError
from everymask.files.addresses import AddressPolicy
from everymask.files.location import Location
from everymask.images.decoding import ImageLimits, ImageTooLargeError
from everymask.images.files import read_bytes
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.schema import MANIFEST
from everymask.labels.store import LabelStore
from tests.files.buckets import Bucket, counting_bucket

POLICY = AddressPolicy(any_local_file=True)


@pytest.fixture(scope="module")
def served() -> Iterator[Bucket]:
    with counting_bucket() as served:
        yield served


@pytest.fixture
def bucket(served: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setattr("everymask.files.location.time.sleep", lambda seconds: None)
    monkeypatch.setattr("data_jobs.labelling.stages.time.sleep", lambda seconds: None)
    served.client.put_object(Bucket="photos", Key="set/a b.jpg", Body=b"x" * 1000)
    served.requests.clear()
    return served


def read(bucket: Bucket, key: str, limits: ImageLimits) -> bytes:
    uri = bucket.uri(key)
    return read_bytes(uri, limits, AddressPolicy.for_input(uri))


def test_an_image_is_one_get(bucket: Bucket) -> None:
    assert read(bucket, "set/a b.jpg", ImageLimits()) == b"x" * 1000
    assert bucket.requests == ["GET /photos/set/a b.jpg"]


def test_an_image_that_is_too_large_or_none_is_told(bucket: Bucket) -> None:
    with pytest.raises(ImageTooLargeError, match="1,000"):
        read(bucket, "set/a b.jpg", ImageLimits(max_bytes=999))
    with pytest.raises(InputError, match="the file is not there"):
        read(bucket, "set/nothing.jpg", ImageLimits())
    with pytest.raises(InputError, match="this is a folder, not a file"):
        read(bucket, "set", ImageLimits())


def test_a_part_is_one_put(bucket: Bucket) -> None:
    store = LabelStore(bucket.uri("labels"))
    rows = to_table([ImageRow("a", "s3://photos/a", None, "unreadable")])
    bucket.requests.clear()
    store.write_part(rows)
    (put,) = bucket.requests
    assert put.startswith("PUT /photos/labels/labels/part-")
    assert [row.image_id for row in store.images()] == ["a"]


def test_a_large_file_is_written_beside_and_moved(bucket: Bucket) -> None:
    place = Location.at(bucket.uri("big"))
    place.write(b"before")
    bucket.failures += [403] * 100
    with pytest.raises(OutputError, match="cannot write"):
        place.write(b"x" * 12 * 2**20)
    bucket.failures.clear()
    assert place.read() == b"before"
    place.write(b"x" * 12 * 2**20)
    assert Location.at(bucket.uri("big")).read() == b"x" * 12 * 2**20
    assert [entry.name for entry in Location.at(bucket.uri("")).entries() if entry.name.startswith(".")] == []


def test_a_bucket_that_fails_for_a_while_is_asked_again(bucket: Bucket) -> None:
    row = {"image_id": "a", "uri": bucket.uri("set/a b.jpg")}
    load = partial(load_bytes, limits=ImageLimits(), policy=AddressPolicy.for_input(row["uri"]))
    bucket.failures += [503] * 6
    assert load(pa.Table.from_pylist([row], MANIFEST))["data"].to_pylist() == [b"x" * 1000]
    assert bucket.requests == ["GET /photos/set/a b.jpg"] * 7
    bucket.requests.clear()
    bucket.failures += [403]
    assert "403" in load(pa.Table.from_pylist([row], MANIFEST))["error"].to_pylist()[0]
    assert bucket.requests == ["GET /photos/set/a b.jpg"]
