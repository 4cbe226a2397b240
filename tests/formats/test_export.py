"""An export is whole or not there, says what it lost, and puts images beside it when asked."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_jobs import export_labels
from everymask.errors import ConfigurationError, InputError
from everymask.formats.export import ExportReport
from everymask.formats.format import Keeps
from everymask.formats.loss import Loss
from everymask.formats.registry import FORMATS, help_text
from everymask.images.decoding import decode_image
from everymask.labels.address_policy import address_policy
from everymask.labels.corrections import CorrectedMask, ImageCorrection, write_corrections
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels
from everymask.review.queue import Queue, QueuedImage, write_queue
from tests.formats.exporting import run_export
from tests.formats.shapes import PORTRAIT_SIZE, sha256_of, shape_store
from tests.labels.examples import labels, mask_record

FOLDERS = [name for name, item in FORMATS.items() if not item.suffix]


def target(folder: Path, name: str) -> Path:
    """An output of the kind that the format writes."""
    return folder / f"out{FORMATS[name].suffix}"


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_left_when_an_image_cannot_be_written(classes: LabelStore, tmp_path: Path, name: str) -> None:
    broken = replace(labels(classes=True).masks[0], class_name="horse")
    classes.write_part(to_table([ImageRow("z.jpg", "z.jpg", ImageLabels((40, 60), (broken,), 0.1))]))
    with pytest.raises(ConfigurationError, match="the store mixes class heads"):
        run_export(classes, name, target(tmp_path / "new" / "folder", name))
    assert [path for path in (tmp_path / "new").rglob("*") if path.is_file()] == []
    assert list((tmp_path / "new" / "folder").glob(".*")) == []


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_there_is_replaced_only_when_asked(classes: LabelStore, tmp_path: Path, name: str) -> None:
    output = target(tmp_path, name)
    run_export(classes, name, output)
    with pytest.raises(ConfigurationError, match="is there already"):
        run_export(classes, name, output)
    run_export(classes, name, output, overwrite=True)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_file_that_lies_where_the_licences_go_is_not_overwritten_unasked(classes: LabelStore, tmp_path: Path) -> None:
    mine = tmp_path / "out.LICENSES.txt"
    mine.write_text("mine")
    with pytest.raises(ConfigurationError, match=r"out\.LICENSES\.txt is there already"):
        run_export(classes, "coco", tmp_path / "out.json")
    assert (mine.read_text(), (tmp_path / "out.json").exists()) == ("mine", False)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_the_user_is_never_replaced(classes: LabelStore, tmp_path: Path, name: str) -> None:
    (tmp_path / "out" / "labels" / "train").mkdir(parents=True)
    (tmp_path / "out" / "labels" / "train" / "mine.txt").write_text("0 0.5")
    with pytest.raises(ConfigurationError, match="is not an export of everymask"):
        run_export(classes, name, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "labels" / "train" / "mine.txt").read_text() == "0 0.5"


def test_the_loss_is_measured_and_limited(tmp_path: Path) -> None:
    whole, corner = np.ones((10, 10), bool), np.zeros((10, 10), bool)
    corner[:5, :5] = True
    store = LabelStore(str(tmp_path / "store"))
    both = ImageLabels((10, 10), (mask_record(corner, 0.9, 1), mask_record(whole, 0.8, 0)), 1.0)
    store.write_part(to_table([ImageRow("a.png", "a.png", both)]))
    loss = run_export(store, "entity-png", tmp_path / "maps").loss
    assert (loss.masks, loss.changed, loss.overlapping, loss.worst, loss.worst_iou) == (2, 1, 2, "a.png", 0.75)
    assert loss.mean_iou == 0.875
    with pytest.raises(ConfigurationError, match=r"IoU 0\.7500, a loss above --max-loss 0\.2; nothing was written"):
        run_export(store, "entity-png", tmp_path / "strict", max_loss=0.2)
    assert not (tmp_path / "strict").exists()
    assert run_export(store, "coco", tmp_path / "exact.json", max_loss=0.0).loss.worst_iou == 1.0


NAMES = ["a/1.jpg", "b/1.jpg", "a/1.png", unicodedata.normalize("NFD", "é.jpg"), "é.jpg", "x #?%'\"\n.jpg"]


def picture_store(folder: Path, names: list[str], orientation: int = 1) -> LabelStore:
    """Images of 60 x 40 upright pixels, and their labels."""
    rows = []
    for number, name in enumerate(names):
        path = folder / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((40, 60, 3), 20 * number, np.uint8)
        pixels[:20, :30] = 250
        turned = Image.fromarray(pixels if orientation == 1 else np.rot90(pixels))
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned.save(path, exif=exif, **({"quality": 95} if name.endswith("jpg") else {}))
        rows.append(ImageRow(name, str(path), labels(classes=True), content_sha256=sha256_of(path)))
    store = LabelStore(str(folder / "store"))
    store.write_part(to_table(rows), {"input": str(folder / "pictures")})
    return store


@pytest.mark.parametrize("mode", ["link", "copy"])
@pytest.mark.parametrize("name", [name for name, item in FORMATS.items() if not item.embeds_images])
def test_with_images_no_name_is_refused(tmp_path: Path, name: str, mode: str) -> None:
    store = picture_store(tmp_path, NAMES)
    report = run_export(store, name, target(tmp_path / "export", name), images=mode)
    assert (report.images, report.turned) == (6, 0)
    folder = tmp_path / "export" / ("" if FORMATS[name].suffix else "out") / FORMATS[name].image_path("", "")
    found = [path for path in folder.iterdir() if path.suffix in (".jpg", ".png")]
    assert len({path.stem for path in found}) == 6
    assert {path.is_symlink() for path in found} == {mode == "link"}
    contents = {(tmp_path / "pictures" / image_id).read_bytes() for image_id in NAMES}
    assert {path.read_bytes() for path in found} == contents


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_a_portrait_is_written_upright(tmp_path: Path, mode: str) -> None:
    store = picture_store(tmp_path, ["portrait.jpg"], orientation=6)
    upright = decode_image((tmp_path / "pictures" / "portrait.jpg").read_bytes())
    assert upright.shape == (40, 60, 3)
    assert run_export(store, "yolo", tmp_path / "yolo", images=mode).turned == 1
    with Image.open(BytesIO((tmp_path / "yolo" / "images" / "portrait.jpg").read_bytes())) as written:
        assert written.getexif().get(0x0112, 1) == 1
        assert np.abs(np.asarray(written).astype(int) - upright).max() < 16


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "PNG"), ("a.webp", "WEBP"), ("a.tif", "TIFF"), ("a.jpeg", "JPEG")]
)
def test_what_is_written_upright_is_what_its_name_says(tmp_path: Path, name: str, kind: str) -> None:
    store = picture_store(tmp_path, [name], orientation=6)
    assert run_export(store, "yolo", tmp_path / "yolo", images="copy").turned == 1
    with Image.open(tmp_path / "yolo" / "images" / name) as written:
        assert (written.format, written.size) == (kind, (60, 40))


def test_the_report_counts_whatever_is_not_as_it_was() -> None:
    loss = Loss(masks=4, changed=2, vanished=1, overlapping=3, worst_iou=0.25, worst="b.png", _sum=2.0)
    report = ExportReport(
        4, 9, 1, loss, not_kept=(Keeps.SCORES, Keeps.IDS), turned=2, stale=3, notes=("a further sentence",)
    )
    assert report.lines() == [
        "4 images, 9 masks; left out: 1 image with an error",
        "IoU of what was written with the store: mean 0.5000, worst 0.2500 (b.png)",
        "not as in the store: 2 masks; gone: 1",
        "overlapping: 3 masks; the pixels went to the higher score",
        f"not kept by this format: {Keeps.SCORES.value}, {Keeps.IDS.value}",
        "written upright, without EXIF orientation: 2 images",
        "corrected, and another file now: 3 images, whose corrections are kept, and not written",
        "a further sentence",
    ]
    assert ExportReport(1, 0, 0, Loss()).lines() == [
        "1 image, 0 masks",
        "IoU of what was written with the store: mean 1.0000, worst 1.0000",
    ]


def test_an_image_that_changed_since_is_refused_with_its_name(tmp_path: Path) -> None:
    store = picture_store(tmp_path, ["a.jpg"])
    Image.new("RGB", (60, 40)).save(tmp_path / "pictures" / "a.jpg")
    with pytest.raises(InputError, match=r"cannot be put into the export \(it has changed since it was labelled"):
        run_export(store, "yolo", tmp_path / "yolo", images="copy")
    (tmp_path / "pictures" / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"^a\.jpg at .* cannot be put into the export \(the file is not there\)"):
        run_export(store, "yolo", tmp_path / "yolo", images="copy")
    assert not (tmp_path / "yolo").exists()


def test_a_strangers_store_copies_no_file_of_the_exporting_user(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    export = tmp_path_factory.mktemp("exports") / "export"
    secret = tmp_path / "id_rsa"
    secret.write_text("-----BEGIN PRIVATE KEY-----")
    nothing = ImageLabels((4, 4), (), 0.0)
    # A stranger's store may call any folder its input.
    cases = [(None, "."), ("0" * 64, "."), (None, "photos"), ("0" * 64, "photos"), (sha256_of(secret), "photos")]
    for number, (digest, folder) in enumerate(cases):
        store = LabelStore(str(tmp_path / f"store{number}"))
        image = ImageRow("cat.jpg", str(secret), nothing, content_sha256=digest)
        store.write_part(to_table([image]), {"input": str(tmp_path / folder)})
        with pytest.raises(InputError, match=r"^cat\.jpg at .*id_rsa cannot be put into the export"):
            run_export(store, "yolo", export, images="copy")
        assert not export.exists()
    # The user has named the folder, and the store knew the bytes: nothing is given away.
    run_export(store, "yolo", export, images="copy", policy=address_policy(store, [str(tmp_path)]))
    assert (export / "images" / "cat.jpg").read_bytes() == secret.read_bytes()


def test_a_part_of_the_store_is_exported(classes: LabelStore, tmp_path: Path) -> None:
    report = run_export(classes, "coco", tmp_path / "some.json", image_ids=frozenset({"a/1.jpg", "c.jpg"}))
    assert (report.images, report.errors) == (1, 1)


def test_the_command_says_what_was_lost(
    classes: LabelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--labels", classes.uri, "--format", "yolo", "--output", str(tmp_path / "yolo"), "--images", "none"]
    assert export_labels.command(arguments) == 0
    printed = capsys.readouterr().out
    assert "2 images, 2 masks; left out: 1 image with an error" in printed
    assert "mean 0.9" in printed
    assert "not kept by this format: ids, scores, parts" in printed
    assert export_labels.command(arguments) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--format", "coco", "--segmentation", "brush"], "rle, uncompressed, polygon; got brush"),
        (["--format", "entity-png", "--tolerance", "1"], "--tolerance is for polygons; entity-png has none"),
        (["--format", "coco", "--tolerance", "1"], "coco writes rle, give --segmentation polygon or leave it out"),
        (["--format", "label-studio", "--segmentation", "brush", "--tolerance", "1"], "label-studio writes brush"),
        (["--format", "yolo", "--task", "detect", "--tolerance", "1"], "yolo writes boxes with --task detect"),
        (["--format", "coco", "--image-address", "x"], "--image-address is for label-studio; coco holds none"),
        (["--format", "coco", "--task", "detect"], "--task of coco: leave it out; got detect"),
        (["--format", "coco", "--split", "0.8/0.2"], "coco has no splits; leave out --split"),
        (["--format", "voc", "--file-mib", "1"], "voc has a file for each image or split; leave out --file-mib"),
        (["--format", "huggingface", "--images", "link"], "huggingface holds the images and cannot link to them"),
        (
            ["--format", "coco", "--segmentation", "polygon", "--tolerance", "-1"],
            "tolerance must be a number of pixels, at least 0",
        ),
        (["--format", "coco", "--max-loss", "2"], r"max-loss must lie in \[0, 1\]"),
        (["--format", "coco"], "must be a .json file for this format"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(
    classes: LabelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    assert export_labels.command(["--labels", classes.uri, "--output", str(tmp_path / "out"), *arguments]) == 2
    assert problem.replace("\\", "") in capsys.readouterr().err


def exported(store: LabelStore, folder: Path, *options: str) -> dict[str, bytes]:
    """The files of an export that the command writes, by path in its folder."""
    assert export_labels.command(["--labels", store.uri, *options, "--processes", "1"]) == 0
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("coco", ["--segmentation", "uncompressed"]),
        ("coco", ["--segmentation", "polygon"]),
        ("label-studio", ["--segmentation", "brush"]),
        ("label-studio", ["--segmentation", "polygon"]),
        ("label-studio", ["--image-address", "https://pictures.example/{image_id}"]),
        ("semantic-png", ["--segmentation", "grey"]),
        ("yolo", ["--task", "detect"]),
        ("x-anylabeling", ["--tolerance", "0"]),
        *((name, ["--images", "copy"]) for name in FORMATS if not FORMATS[name].needs_images),
        *((name, ["--images", "none"]) for name in FORMATS if FORMATS[name].needs_images),
        *((name, ["--split", "0.5/0.5"]) for name in FORMATS if FORMATS[name].has_splits),
        *((name, [option]) for name in ("coco", "yolo", "webdataset") for option in ("--uncorrected", "--queue")),
    ],
)
def test_an_option_changes_what_is_written(name: str, options: list[str], tmp_path: Path) -> None:
    store = shape_store(tmp_path / "shapes")
    rows = {row.image_id: row for row in store.images()}
    turned = rows["portrait.jpg"]
    assert turned.labels is not None
    (mask,) = turned.labels.masks
    deleted = CorrectedMask("deleted", str(mask.mask_id), mask.mask_id, mask.rle, mask.class_id, mask.class_name, None)
    stamp = "2026-01-01T00:00:00Z"
    correction = ImageCorrection(
        turned.image_id, turned.content_sha256, PORTRAIT_SIZE, "test", "ada", stamp, stamp, (deleted,)
    )
    write_corrections(store, [correction])
    write_queue(
        Queue((QueuedImage("shapes/all.png", "doubt", 1.0, 1.0, 1.0, 0.5, 10),), 1, 0), str(tmp_path / "queue.json")
    )
    given = [*options, str(tmp_path / "queue.json")] if options == ["--queue"] else options
    plain, other = (tmp_path / "plain", tmp_path / "other")
    plain.mkdir()
    other.mkdir()
    before = exported(store, plain, "--format", name, "--output", str(target(plain, name)))
    after = exported(store, other, "--format", name, "--output", str(target(other, name)), *given)
    assert before != after


@pytest.mark.parametrize("name", ["coco", "label-studio"])
def test_a_tolerance_changes_polygons(name: str, tmp_path: Path) -> None:
    store = shape_store(tmp_path / "shapes")
    (tmp_path / "plain").mkdir()
    (tmp_path / "other").mkdir()
    polygons = ["--format", name, "--segmentation", "polygon"]
    before = exported(store, tmp_path / "plain", *polygons, "--output", str(target(tmp_path / "plain", name)))
    after = exported(
        store, tmp_path / "other", *polygons, "--tolerance", "2", "--output", str(target(tmp_path / "other", name))
    )
    main = target(tmp_path, name).name
    assert len(after[main]) < len(before[main])


def test_every_format_is_in_the_help() -> None:
    lines = {line.partition(":")[0]: line for line in help_text().splitlines()}
    assert lines.keys() == FORMATS.keys()
    choices = {name: line.partition("--segmentation ")[2].rstrip("].").split("|") for name, line in lines.items()}
    assert choices == {name: list(item.segmentations) or [""] for name, item in FORMATS.items()}
    assert all(("[--segmentation" in line) == bool(FORMATS[name].segmentations) for name, line in lines.items())


def test_an_empty_mask_is_no_crash(tmp_path: Path) -> None:
    empty = replace(labels(classes=True).masks[0], rle=encode_mask(np.zeros((40, 60), bool)), area=0, box_xyxy=(0,) * 4)
    store = LabelStore(str(tmp_path / "store"))
    store.write_part(to_table([ImageRow("a.jpg", "a.jpg", ImageLabels((40, 60), (empty,), 0.0))]))
    for name in FORMATS:
        assert run_export(store, name, target(tmp_path / name, name)).masks == 1
