from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everymask.classes.exemplars.manifest import Exemplar, ExemplarFolder, Origin, load_exemplars
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError, OutputError
from tests.classes.exemplars.pictures import encode, picture_file

CLASSES = Taxonomy.parse("animals=cat+dog,chair")
CAT = Origin(
    "cat", "crawl", prompt="cat", license="by 2.0", creator="Ann", url="http://x/1.jpg", landing_url="http://x/1"
)


def test_a_kept_picture_is_written_with_everything_known_about_it(tmp_path: Path) -> None:
    data = picture_file(1)
    assert ExemplarFolder(tmp_path, CLASSES).add(data, CAT) is None

    line = json.loads((tmp_path / "manifest.jsonl").read_text())
    assert line["class_name"] == "animals"
    assert (line["subject"], line["license"], line["creator"], line["url"]) == (
        "cat",
        "by 2.0",
        "Ann",
        "http://x/1.jpg",
    )
    assert line["sha256"] == hashlib.sha256(data).hexdigest()
    assert (tmp_path / line["file"]).read_bytes() == data
    assert load_exemplars(tmp_path) == [Exemplar.from_fields(line)]
    assert load_exemplars(tmp_path)[0].origin == CAT


def test_near_duplicates_within_a_subject_are_refused(tmp_path: Path) -> None:
    folder = ExemplarFolder(tmp_path, CLASSES)
    original = Image.open(io.BytesIO(picture_file(1)))
    smaller = encode(original.resize((130, 111)).convert("RGB"), "PNG")
    assert folder.add(picture_file(1), CAT) is None
    assert "near-duplicate" in folder.add(smaller, Origin("cat", "folder", url="2"))
    assert folder.add(picture_file(2), Origin("cat", "folder", url="3")) is None
    assert folder.add(smaller, Origin("dog", "folder", url="2")) is None
    assert (folder.count("cat"), folder.count("dog")) == (2, 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (picture_file(1, (40, 300)), "shorter side"),
        (picture_file(1, (100, 400)), "aspect ratio"),
        (encode(Image.fromarray(np.zeros((128, 128, 3), np.uint8))), "contrast"),
        (b"<html>", "image"),
        (picture_file(1)[:200], "image"),
    ],
)
def test_unusable_pictures_are_refused_with_the_reason_and_not_tried_again(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    folder = ExemplarFolder(tmp_path, CLASSES)
    assert reason in folder.add(data, CAT)
    assert reason in json.loads((tmp_path / "rejected.jsonl").read_text())["reason"]
    assert not (tmp_path / "manifest.jsonl").exists()
    assert ExemplarFolder(tmp_path, CLASSES).knows(CAT)


def test_a_run_killed_while_it_wrote_a_line_resumes(tmp_path: Path) -> None:
    folder = ExemplarFolder(tmp_path, CLASSES)
    folder.add(picture_file(1), CAT)
    dog = Origin("dog", "folder", url="d")
    folder.add(picture_file(2), dog)
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-25])

    resumed = ExemplarFolder(tmp_path, CLASSES)
    assert resumed.knows(CAT)
    assert not resumed.knows(dog)
    assert resumed.add(picture_file(2), dog) is None
    assert "near-duplicate" in resumed.add(picture_file(1, (100, 120)), Origin("cat", "folder", url="again"))
    assert [item.origin.subject for item in load_exemplars(tmp_path)] == ["cat", "dog"]


def test_a_deleted_picture_is_no_exemplar_and_is_not_taken_again(tmp_path: Path) -> None:
    folder = ExemplarFolder(tmp_path, CLASSES)
    folder.add(picture_file(1), CAT)
    folder.add(picture_file(2), Origin("cat", "folder", url="2"))
    (tmp_path / load_exemplars(tmp_path)[0].file).unlink()

    assert len(load_exemplars(tmp_path)) == 1
    again = ExemplarFolder(tmp_path, CLASSES)
    assert again.count("cat") == 1
    assert again.knows(CAT)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    ExemplarFolder(tmp_path, CLASSES).add(picture_file(1), CAT)
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text('{"file": "x"}\n' + manifest.read_text())
    with pytest.raises(ConfigurationError, match="line 1"):
        load_exemplars(tmp_path)


def test_a_folder_without_a_manifest_is_read_by_its_directories(tmp_path: Path) -> None:
    for name in ("dog", "cat"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(picture_file(1))
        (tmp_path / name / "notes.txt").touch()
    assert [(item.file, item.class_name) for item in load_exemplars(tmp_path)] == [
        ("cat/1.jpg", "cat"),
        ("dog/1.jpg", "dog"),
    ]


def test_no_exemplar_at_all_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no exemplar"):
        load_exemplars(tmp_path)
    with pytest.raises(ConfigurationError, match="`everymask exemplars`"):
        load_exemplars(tmp_path / "nowhere")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        ExemplarFolder(tmp_path / "file", CLASSES)


@pytest.mark.parametrize(
    "file", ["/etc/hostname", "../outside.jpg", "cat/../../outside.jpg", "link/a.jpg", "a\0b", "cat\\a.jpg", 7]
)
def test_a_manifest_names_files_of_its_folder_only(tmp_path: Path, file: object) -> None:
    """Manifests come from strangers, and their pictures end in a report that others see."""
    (tmp_path / "outside.jpg").write_bytes(picture_file(1))
    folder = tmp_path / "exemplars"
    ExemplarFolder(folder, CLASSES).add(picture_file(1), CAT)
    (folder / "link").symlink_to(tmp_path)
    line = json.loads((folder / "manifest.jsonl").read_text()) | {"file": file}
    (folder / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    for read in (load_exemplars, lambda directory: ExemplarFolder(directory, CLASSES)):
        with pytest.raises(ConfigurationError, match=r"line 1 of .*manifest\.jsonl is no exemplar"):
            read(folder)


def test_a_rejected_line_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "rejected.jsonl").write_text('{"other": 1}\n')
    with pytest.raises(ConfigurationError, match=r"line 1 of .*rejected\.jsonl is no candidate"):
        ExemplarFolder(tmp_path, CLASSES)


def test_a_signed_address_is_kept_without_its_signature_and_still_known(tmp_path: Path) -> None:
    signed = Origin("cat", "crawl", url="http://x/1.jpg?sig=first")
    ExemplarFolder(tmp_path, CLASSES).add(picture_file(1), signed)
    assert "first" not in (tmp_path / "manifest.jsonl").read_text()
    again = ExemplarFolder(tmp_path, CLASSES)
    assert again.knows(signed)
    assert again.knows(Origin("cat", "crawl", url="http://x/1.jpg?sig=second"))


def test_half_a_surrogate_pair_is_written_and_read(tmp_path: Path) -> None:
    odd = Origin("cat", "crawl", creator="\ud800", url="http://x/\ud800.jpg")
    ExemplarFolder(tmp_path, CLASSES).reject(odd, "not a web address")
    assert ExemplarFolder(tmp_path, CLASSES).knows(odd)
