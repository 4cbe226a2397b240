"""Folders, globs, lists and manifests list the images a user means, in a fixed order, with stable ids."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_jobs.labelling.config import LabelDatasetConfig, StoreOptions
from data_jobs.labelling.inputs import ImageRef, list_images
from data_jobs.labelling.skipped import Skipped
from everymask.errors import ConfigurationError
from everymask.files.storage import canonical_uri


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("a/1.jpg", "b/1.jpg", "b/c/2.PNG", "3.webp", "notes.txt", ".hidden.jpg", ".git/4.jpg", "b/._5.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def ids(location: Path | str, skip: str | None = None) -> list[str]:
    return [ref.image_id for ref in list_images(str(location), skip)]


def test_a_folder_is_walked_and_only_visible_images_count(photos: Path) -> None:
    assert ids(photos) == ["3.webp", "a/1.jpg", "b/1.jpg", "b/c/2.PNG"]
    assert ids(f"{photos}/") == ids(photos)
    assert next(iter(list_images(str(photos)))) == ImageRef("3.webp", str(photos / "3.webp"))


def test_a_relative_folder_gives_absolute_uris(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    assert list(list_images("photos")) == list(list_images(str(photos)))
    assert canonical_uri("photos/../photos/") == str(photos)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.webp", ["3.webp"]),
        ("*/*.jpg", ["a/1.jpg", "b/1.jpg"]),
        ("**/*.jpg", ["a/1.jpg", "b/1.jpg"]),
        ("b/**", ["1.jpg", "c/2.PNG"]),
        ("[ab]/1.jp?", ["a/1.jpg", "b/1.jpg"]),
        ("notes.*", ["notes.txt"]),
        ("*.nothing", []),
    ],
)
def test_a_glob_takes_what_it_matches(photos: Path, pattern: str, found: list[str]) -> None:
    assert ids(f"{photos}/{pattern}") == found


def test_a_name_with_brackets_is_no_glob(tmp_path: Path) -> None:
    (tmp_path / "holiday [2024]").mkdir()
    (tmp_path / "holiday [2024]" / "x.jpg").write_bytes(b"x")
    assert ids(tmp_path / "holiday [2024]") == ["x.jpg"]


def test_one_image_is_an_input(photos: Path) -> None:
    assert list(list_images(str(photos / "a/1.jpg"))) == [ImageRef("1.jpg", str(photos / "a/1.jpg"))]


def test_one_image_may_be_named_from_here(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    assert [ref.uri for ref in list_images("a/1.jpg")] == [str(photos / "a/1.jpg")]


def test_a_list_keeps_ids_when_lines_are_added(photos: Path) -> None:
    listing = photos / "list.txt"
    listing.write_text(f"# comment\na/1.jpg\n\n{photos}/b/1.jpg  # here too\n/elsewhere/x.jpg\ns3://bucket/y.jpg\n")
    assert list(list_images(str(listing))) == [
        ImageRef("a/1.jpg", str(photos / "a/1.jpg")),
        ImageRef("b/1.jpg", str(photos / "b/1.jpg")),
        ImageRef("/elsewhere/x.jpg", "/elsewhere/x.jpg"),
        ImageRef("s3://bucket/y.jpg", "s3://bucket/y.jpg"),
    ]


def test_an_address_that_is_signed_anew_keeps_its_id(photos: Path) -> None:
    listing = photos / "list.txt"
    listing.write_text("https://h/x.jpg?X-Amz-Signature=abc\n")
    address = "https://h/x.jpg?X-Amz-Signature="
    assert list(list_images(str(listing))) == [ImageRef(f"{address}***", f"{address}abc")]


def test_a_byte_order_mark_is_no_part_of_an_id(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n", encoding="utf-8-sig")
    assert ids(tmp_path / "list.txt") == ["a.jpg", "b.jpg"]


def test_a_file_that_is_there_wins_over_a_comment(tmp_path: Path) -> None:
    for name in ("photo #1.jpg", "#2.jpg", "c.jpg"):
        (tmp_path / name).touch()
    lines = ["photo #1.jpg", "photo #1.jpg # the best # of all", "#2.jpg", "# photo", "c.jpg #9", "gone.jpg # lost"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert ids(tmp_path / "list.txt") == ["photo #1.jpg", "photo #1.jpg", "#2.jpg", "c.jpg", "gone.jpg"]


def test_a_file_of_a_bucket_wins_over_a_comment_and_a_web_server_is_not_asked() -> None:
    bucket = fsspec.filesystem("memory")
    bucket.pipe({"/commented/photo #1.jpg": b"", "/commented/list.txt": b"photo #1.jpg\nhttp://127.0.0.1:1/a #b\n"})
    assert [ref.uri for ref in list_images("memory://commented/list.txt")] == [
        "memory://commented/photo #1.jpg",
        "http://127.0.0.1:1/a",
    ]


def test_links_to_folders_are_followed_and_each_folder_once(tmp_path: Path) -> None:
    elsewhere, photos = tmp_path / "elsewhere", tmp_path / "photos"
    for folder in (elsewhere / "deep", photos / "b", photos / "out"):
        folder.mkdir(parents=True)
        (folder / "1.jpg").touch()
    (photos / "a_link").symlink_to(elsewhere)
    (photos / "a_link_to_b").symlink_to(photos / "b")
    (elsewhere / "back").symlink_to(photos)
    (elsewhere / "to_out").symlink_to(photos / "out")
    (photos / "nowhere.jpg").symlink_to("nowhere.jpg")
    skipped = Skipped()
    found = [ref.image_id for ref in list_images(str(photos), str(photos / "out"), skipped)]
    assert found == ["nowhere.jpg", "b/1.jpg", "a_link/deep/1.jpg"]
    assert str(skipped) == "skipped: 2 folders that a link leads to a second time"


def test_a_manifest_may_name_its_ids(photos: Path) -> None:
    manifest = photos / "m.parquet"
    pq.write_table(pa.table({"uri": ["a/1.jpg", "b/1.jpg"], "image_id": ["first", None], "more": [1, 2]}), manifest)
    assert list(list_images(str(manifest))) == [
        ImageRef("first", str(photos / "a/1.jpg")),
        ImageRef("b/1.jpg", str(photos / "b/1.jpg")),
    ]


def test_a_manifest_without_uris_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / "m.parquet")
    with pytest.raises(ConfigurationError, match="has no one column of images or their addresses, only path"):
        ids(tmp_path / "m.parquet")
    (tmp_path / "n.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ids(tmp_path / "n.parquet")


def test_an_address_that_names_no_data_set_is_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match="hf://datasets/x names no repository of the hub"):
        next(iter(list_images("hf://datasets/x")))


def test_a_missing_input_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"the input .*/nowhere is not there; give a folder"):
        ids(tmp_path / "nowhere")


def test_the_output_inside_the_input_is_not_listed(photos: Path) -> None:
    (photos / "labels/preview").mkdir(parents=True)
    (photos / "labels/preview/contact_sheet.jpg").write_bytes(b"x")
    assert ids(photos, skip=f"{photos}/labels") == ["3.webp", "a/1.jpg", "b/1.jpg", "b/c/2.PNG"]


def test_pictures_of_a_label_store_are_no_images(tmp_path: Path) -> None:
    """Of another run's output, say, that lies among the images."""
    for name in ("photos/1.jpg", "photos/out/preview/contact_sheet.jpg", "photos/out/labels/part.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert ids(tmp_path / "photos") == ["1.jpg", "out/preview/contact_sheet.jpg"]
    (tmp_path / "photos/out/run.json").write_bytes(b"{}")
    skipped = Skipped()
    for location in (tmp_path / "photos", f"{tmp_path}/photos/**/*.jpg"):
        assert [ref.image_id for ref in list_images(str(location), None, skipped)] == ["1.jpg"]
    assert str(skipped).startswith("skipped: 2 label stores")


def test_a_file_name_that_is_no_utf8_is_listed(tmp_path: Path) -> None:
    (tmp_path / "ok.jpg").write_bytes(b"x")
    with open(bytes(tmp_path) + b"/\xff.jpg", "wb"):
        pass
    found = ids(tmp_path)
    assert found == ["ok.jpg", "\\xff.jpg"], "bytes that are no text sort behind all text"
    pa.array(found)


def test_remote_folders_and_globs_keep_the_address() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a/1.jpg", "a/b/2.png", "a/b/readme.md", "a/.3.jpg"):
        memory.pipe(f"/listing/{name}", b"x")
    assert list(list_images("memory://listing/a")) == [
        ImageRef("1.jpg", "memory://listing/a/1.jpg"),
        ImageRef("b/2.png", "memory://listing/a/b/2.png"),
    ]
    assert ids("memory://listing/**/*.png") == ["a/b/2.png"]


@pytest.mark.parametrize("output", ["memory://nested/in/out", "memory://nested/in/out/"])
def test_a_remote_output_inside_the_input_is_not_listed(output: str) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("1.jpg", "out/preview/contact_sheet.jpg", "outdoors/2.jpg", "sub/out/3.jpg"):
        memory.pipe(f"/nested/in/{name}", b"x")
    assert ids("memory://nested/in") == ["1.jpg", "out/preview/contact_sheet.jpg", "outdoors/2.jpg", "sub/out/3.jpg"]
    for location in ("memory://nested/in", "memory://nested/in/", "memory://nested/in/**/*.jpg"):
        assert ids(location, skip=output) == ["1.jpg", "outdoors/2.jpg", "sub/out/3.jpg"]


def test_what_comes_after_a_label_store_in_a_bucket_is_listed() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.jpg", "b/labels/part.parquet", "b/run.json", "b/preview/sheet.jpg", "c/d.jpg"):
        memory.pipe(f"/with_store/{name}", b"x")
    skipped = Skipped()
    found = [ref.image_id for ref in list_images("memory://with_store", None, skipped)]
    assert found == ["a.jpg", "c/d.jpg"]
    assert str(skipped).startswith("skipped: 1 label stores")


def test_a_question_mark_in_a_local_name_is_a_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "what?").mkdir()
    (tmp_path / "what?" / "list.txt").write_text("a?b.jpg\n")
    (tmp_path / "what?" / "a?b.jpg").touch()
    location = tmp_path / "what?" / "list.txt"
    assert list(list_images(str(location))) == [ImageRef("a?b.jpg", str(tmp_path / "what?" / "a?b.jpg"))]


@pytest.fixture
def too_deep(tmp_path: Path) -> Iterator[Path]:
    """A folder in which one lies too deep to be named: nobody, root included, can list it."""
    root = tmp_path / "deep"
    root.mkdir()
    inside = os.open(root, os.O_RDONLY)
    folders = [inside]
    for _ in range(17):
        os.mkdir("x" * 250, dir_fd=inside)
        inside = os.open("x" * 250, os.O_RDONLY, dir_fd=inside)
        folders.append(inside)
    (root / "y.jpg").touch()
    yield root
    for folder in reversed(folders[:-1]):
        os.rmdir("x" * 250, dir_fd=folder)
    for folder in folders:
        os.close(folder)


def test_a_folder_that_cannot_be_read_ends_the_listing_after_what_can_be(too_deep: Path) -> None:
    listing = list_images(str(too_deep))
    assert next(listing).image_id == "y.jpg"
    with pytest.raises(ConfigurationError, match=r"1 folder of the input cannot be read, /.*/x+ first; give") as raised:
        list(listing)
    assert "give read access" in str(raised.value)


@pytest.mark.parametrize("output", ["photos", "photos/", "./photos"])
def test_the_input_itself_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="is the input"):
        LabelDatasetConfig("photos", StoreOptions(output))
