"""An export puts no picture where the next run would take it for one of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

import everymask
from data_jobs import export_labels
from data_jobs.labelling.inputs import list_images
from everymask.errors import ConfigurationError
from everymask.formats.registry import FORMATS
from everymask.images.decoding import IMAGE_SUFFIXES
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from tests.formats.exporting import run_export
from tests.formats.shapes import sha256_of
from tests.labels.examples import labels
from tests.serve.pictures import encoded, picture

TARGETS = {  # where an export goes → a file that it would put there
    "photos/new": "photos/new/images/a.png",
    "photos/deep/new": "photos/deep/new/images/a.png",
    "photos/.new": "photos/.new/images/a.png",
    "photos-new": "photos-new/images/a.png",
    "new": "new/images/a.png",
    "link/new": "photos/new/images/a.png",
}


def store_of(root: Path, recorded: str) -> LabelStore:
    (root / "photos" / "deep").mkdir(parents=True)
    photo = root / "photos" / "a.png"
    photo.write_bytes(encoded(picture(3, (60, 40))))
    store = LabelStore(str(root / "labels"))
    row = ImageRow("a.png", str(photo), labels(classes=True), None, sha256_of(photo))
    store.write_part(to_table([row]), {"input": recorded})
    return store


@pytest.mark.parametrize("output", TARGETS)
@pytest.mark.parametrize("given", ["photos", "photos/*.png", "photos/**/*.png", "photos/*/images/*.png"])
def test_it_is_refused_just_where_the_next_run_would_list_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, output: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store = store_of(tmp_path, str(tmp_path / given))
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    refusal = ""
    try:
        run_export(store, "yolo", Path("..") / output, images="copy")
    except ConfigurationError as error:
        refusal = str(error)
        file = tmp_path / TARGETS[output]
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
    listed = {Path(image.uri) for image in list_images(str(tmp_path / given))}
    assert ((tmp_path / TARGETS[output]) in listed) == bool(refusal)
    if refusal:
        assert "would put pictures into" in refusal
        assert "choose a folder outside of it" in refusal
        assert not list(tmp_path.rglob("data.yaml"))


@pytest.mark.parametrize("name", FORMATS)
def test_labels_may_lie_among_the_images_and_pictures_of_masks_may_not(tmp_path: Path, name: str) -> None:
    chosen = FORMATS[name]
    store = store_of(tmp_path, str(tmp_path / "other"))
    run_export(store, name, tmp_path / f"out{chosen.suffix}")
    pictures = [path for path in (tmp_path / "out").rglob("*") if path.suffix in IMAGE_SUFFIXES]
    assert bool(pictures) == chosen.draws_masks
    inside = tmp_path / "photos" / f"new{chosen.suffix}"
    among = store_of(tmp_path / "among", str(tmp_path / "photos"))
    if chosen.draws_masks:
        with pytest.raises(ConfigurationError, match="the next run would take them for yours"):
            run_export(among, name, inside)
    else:
        run_export(among, name, inside)
        assert [image.image_id for image in list_images(str(tmp_path / "photos"))] == ["a.png"]


def test_the_command_and_python_say_so_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = store_of(tmp_path, str(tmp_path / "photos"))
    output = str(tmp_path / "photos" / "labels.json")
    assert export_labels.command(["--labels", store.uri, "--images", "link", "--output", output]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"--output {output} would put pictures into {tmp_path / 'photos'}, the input of these labels" in error
    with pytest.raises(ConfigurationError, match="would put pictures into"):
        everymask.export(store.uri, "yolo", tmp_path / "photos" / "yolo")
    assert sorted(path.name for path in (tmp_path / "photos").rglob("*")) == ["a.png", "deep"]


def test_a_glob_of_folders_takes_in_new_ones(tmp_path: Path) -> None:
    store = store_of(tmp_path, str(tmp_path / "p*" / "*" / "*.png"))
    run_export(store, "yolo", tmp_path / "new", images="copy")
    with pytest.raises(ConfigurationError, match="would put pictures into"):
        run_export(store, "yolo", tmp_path / "photos-new", images="copy")


def test_a_folder_deeper_than_a_glob_reaches_is_apart(tmp_path: Path) -> None:
    store = store_of(tmp_path, str(tmp_path / "photos" / "*" / "*"))
    run_export(store, "yolo", tmp_path / "photos" / "deep" / "new", images="copy")
    listed = [image.image_id for image in list_images(str(tmp_path / "photos" / "*" / "*"))]
    assert not any(image_id.startswith("deep/new/images/") for image_id in listed)


def test_folders_of_a_bucket_are_told_apart(tmp_path: Path) -> None:
    store = store_of(tmp_path, "s3://bucket/photos?region=eu-central-1")
    with pytest.raises(ConfigurationError, match="would put pictures into s3://bucket/photos"):
        run_export(store, "yolo", "s3://bucket/photos/yolo?region=eu-central-1", images="copy")  # type: ignore[arg-type]
