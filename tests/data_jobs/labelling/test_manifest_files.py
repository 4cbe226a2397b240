"""Manifests name the same images whatever they are written in."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_jobs.labelling.inputs import ImageRef, list_images
from data_jobs.labelling.manifests import Manifest
from everymask.errors import ConfigurationError
from everymask.files.location import Location

ROWS = [{"uri": "a/1.jpg", "image_id": "one"}, {"uri": "s3://bucket/ü, 2.jpg", "image_id": "two"}]


def as_csv(rows: list[dict[str, str]]) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return ("\ufeff" + stream.getvalue()).encode()


def as_lines(rows: list[dict[str, str]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", as_csv(ROWS)),
        ("m.csv.gz", gzip.compress(as_csv(ROWS), mtime=0)),
        ("m.jsonl", as_lines(ROWS)),
        ("m.jsonl.gz", gzip.compress(as_lines(ROWS), mtime=0)),
        ("m.ndjson", as_lines(ROWS)),
        ("m.parquet", None),
    ],
)
def test_the_same_rows_are_the_same_images(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is None:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_bytes(content)
    expected = [ImageRef("one", f"{tmp_path}/a/1.jpg"), ImageRef("two", "s3://bucket/ü, 2.jpg")]
    assert list(list_images(str(path))) == expected


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("m.csv", b"path,label\na.jpg,1\n", r"has no one column of images or their addresses, only path, label"),
        ("m.csv", b'uri\na.jpg\n""\n', "has a row without a uri"),
        ("m.jsonl", b'{"uri": "a.jpg"}\n{"uri"', "cannot be read"),
        ("m.jsonl", b'["a.jpg"]', "a line that is no JSON object"),
        ("m.csv.gz", b"no gzip", "cannot be read"),
        ("m.csv", b"uri\n\xff\xfe\n", "cannot be read"),
        ("m.jsonl", b"[" * 100_000, "nested too deeply"),
        ("manifest.json", b'{"fileFormat": "CSV", "destinationBucket": "b", "files": 5}', "cannot be read"),
        ("manifest.json", b'{"fileFormat": "CSV", "destinationBucket": "b", "files": [{}]}', "it has no 'key'"),
        ("manifest.json", b"{}", "is no manifest of an S3 Inventory"),
    ],
)
def test_what_is_no_manifest_is_a_sentence(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=problem):
        list(list_images(str(tmp_path / name)))


def inventory(folder: Path, kind: str) -> Path:
    """As S3 writes it: two images, one of them deleted, and a text."""
    rows = [
        ("photos", "a b/ü.jpg", True, False, 10, "e1"),
        ("photos", "gone.jpg", True, True, 11, "e2"),
        ("photos", "old.jpg", False, False, 12, "e3"),
        ("photos", "note.txt", True, False, 13, "e4"),
    ]
    if kind == "CSV":
        stream = io.StringIO()
        keys = ["a+b/%C3%BC.jpg", "gone.jpg", "old.jpg", "note.txt"]
        for (bucket, _, latest, deleted, size, etag), key in zip(rows, keys, strict=True):
            csv.writer(stream).writerow([bucket, key, str(latest).lower(), str(deleted).lower(), size, etag])
        (folder / "data.csv.gz").write_bytes(gzip.compress(stream.getvalue().encode()))
        name, schema = "data.csv.gz", "Bucket, Key, IsLatest, IsDeleteMarker, Size, ETag"
    else:
        columns = ["bucket", "key", "is_latest", "is_delete_marker", "size", "e_tag"]
        table = pa.table(
            {column: list(values) for column, values in zip(columns, zip(*rows, strict=True), strict=True)}
        )
        pq.write_table(table, folder / "data.parquet")
        name, schema = "data.parquet", "message s3.inventory { … }"
    content = {"sourceBucket": "photos", "destinationBucket": "arn:aws:s3:::inventories", "fileFormat": kind}
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**content, "fileSchema": schema, "files": [{"key": f"photos/all/data/{name}"}]}))
    return manifest


@pytest.mark.parametrize("kind", ["CSV", "Parquet"])
def test_an_inventory_gives_the_images_with_size_and_etag(tmp_path: Path, kind: str) -> None:
    (image,) = list_images(str(inventory(tmp_path, kind)))
    assert (image.image_id, image.uri) == ("a b/ü.jpg", "s3://photos/a b/ü.jpg")
    assert (image.file_size, image.file_version) == (10, "etag:e1")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("m.jsonl.gz", gzip.compress(b" " * 2**24), "line 1 has more than 1,048,576 characters"),
        ("m.csv.gz", gzip.compress(b"uri\n" + b"x" * 2**24), "line 2 has more than 1,048,576 characters"),
        ("l.txt", b"a.jpg\n" + b"x" * 2**21, "line 2 has more than 1,048,576 characters"),
        ("m.jsonl", b"[" * 100_000, "nested too deeply"),
        ("m.jsonl", b'{"uri": 1' + b"0" * 6000 + b"}", "cannot be read"),
    ],
)
def test_endless_lines_and_numbers_are_a_sentence(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=problem):
        list(list_images(str(tmp_path / name)))


def test_a_parquet_manifest_repeats_no_endless_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": ["x" * 70_000] * 3}), tmp_path / "m.parquet")
    with pytest.raises(ConfigurationError, match="a text of 70,000 bytes"):
        list(list_images(str(tmp_path / "m.parquet")))


def test_half_a_character_is_a_row_that_is_not_found(tmp_path: Path) -> None:
    lines = [{"uri": "\ud800.jpg"}, {"uri": "a.jpg", "image_id": "\udfff"}, {"uri": "\0"}, {"uri": ["a"]}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    images = list(list_images(str(tmp_path / "m.jsonl")))
    assert [image.image_id for image in images] == ["\\ud800.jpg", "\\udfff", "\0", "['a']"]
    manifest = Manifest.at(Location.at(str(tmp_path / "kept"))).with_more(images)
    assert list(manifest.read()) == images


def test_an_entry_with_many_marks_is_looked_for_a_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "l.txt").write_text("a.jpg" + " #" * 5000)
    asked: list[str] = []

    def isfile(path: str) -> bool:
        asked.append(path)
        return os.path.exists(path)

    monkeypatch.setattr(os.path, "isfile", isfile)
    assert [image.image_id for image in list_images(str(tmp_path / "l.txt"))] == ["a.jpg"]
    assert len(asked) < 50


def hostile_inventory(folder: Path, *rows: str, **fields: object) -> str:
    (folder / "data.csv").write_text("\n".join(rows))
    content = {"fileFormat": "CSV", "fileSchema": "Bucket, Key, Size", "destinationBucket": "arn:aws:s3:::i"}
    (folder / "manifest.json").write_text(json.dumps({**content, "files": [{"key": "x/data.csv"}], **fields}))
    return str(folder / "manifest.json")


@pytest.mark.parametrize("size", ["9" * 30, "-5", "9" * 5000, "x"])
def test_sizes_that_no_object_has_are_a_sentence(tmp_path: Path, size: str) -> None:
    with pytest.raises(ConfigurationError, match=r"manifest\.json cannot be read"):
        list(list_images(hostile_inventory(tmp_path, f'"b","a.png","{size}"')))


@pytest.mark.parametrize("files", [[1], [{"key": ".."}], [{"key": ""}], {"a": 1}, 5, [{"key": "\0"}], [{"key": None}]])
def test_an_inventory_names_files_beside_it(tmp_path: Path, files: object) -> None:
    with pytest.raises(ConfigurationError, match=r"manifest\.json cannot be read"):
        list(list_images(hostile_inventory(tmp_path, files=files)))


def test_the_files_of_a_strangers_inventory_are_on_no_server_of_its_own() -> None:
    bucket = "b?region=r&scheme=http&endpoint_override=127.0.0.1&tls_ca_file_path="
    content = {"fileFormat": "CSV", "fileSchema": "Key", "destinationBucket": bucket, "files": [{"key": "data.csv"}]}
    memory = fsspec.filesystem("memory")
    memory.pipe("/inventory/manifest.json", json.dumps(content).encode())
    with pytest.raises(ConfigurationError, match="names a server of its own"):
        list(list_images("memory://inventory/manifest.json"))
