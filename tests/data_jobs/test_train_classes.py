"""From a folder of pictures to labels, on real Ray: train, label while keeping masks, label again from them."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_jobs.label_dataset import command as label
from data_jobs.relabel import command as relabel
from data_jobs.train_classes import command as train
from everymask.classes.describers import imagenet
from everymask.classes.embeddings import load_embeddings
from everymask.classes.head import ClassHead, load_head, save_head
from everymask.labels.corrections import CorrectedMask, ImageCorrection, write_corrections
from everymask.labels.provenance import RunRecord, write_run
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.classes.exemplars.pictures import picture_file
from tests.formats.shapes import sha256_of
from tests.labels.examples import mask_record

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

MASKS = ["--masks.points-per-side", "3", "--masks.max-masks", "12"]
FAST = ["--training.epochs", "2", "--training.corrected-epochs", "2", "--training.hidden-dim", "8"]
FAST += ["--actors", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def model(tiny_sam_checkpoint: Path) -> list[str]:
    return ["--model", "vit_b", "--checkpoint", str(tiny_sam_checkpoint)]


@pytest.fixture(scope="module")
def exemplars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exemplars")
    for position, name in enumerate(("cat", "dog", "fox")):
        (folder / name).mkdir()
        for number in range(4):
            data = picture_file(10 * position + number, (48, 56))
            (folder / name / f"{number}.jpg").write_bytes(data)
    (folder / "fox" / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def head(exemplars: Path, model: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("heads") / "animals.safetensors"
    assert train(["--exemplars", str(exemplars), "--output", str(output), *model, *MASKS, *FAST]) == 0
    return output


def shards(exemplars: Path) -> set[Path]:
    return set((exemplars / ".bags").rglob("*.parquet"))


def test_a_folder_of_pictures_becomes_a_head_with_a_report(head: Path) -> None:
    assert load_head(head).spec.classes == ("cat", "dog", "fox")
    page = head.with_suffix(".html").read_text()
    assert "Most uncertain masks" in page
    # One picture of each class is held out; a chart counts the masks that are taken for a class, or none is.
    assert [total for _, total in re.findall(r"(\d+)% of (\d+)</td>", page)] == ["1", "1", "1"]
    charts = re.findall(r"share that is right, of (\d+) masks? · calibration error [\d.]+%", page)
    assert page.count("No mask of a held-out picture was taken for one of the classes.") == 1 - len(charts)
    assert sum(map(int, re.findall(r"<title>(\d+) masks? at", page))) == sum(map(int, charts))
    assert page.count("data:image/jpeg;base64") >= 3


def test_another_head_is_trained_without_embedding_again(
    head: Path, exemplars: Path, model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = shards(exemplars)
    output = tmp_path / "pets.safetensors"
    command = [
        "--exemplars",
        str(exemplars),
        "--output",
        str(output),
        "--classes",
        "pets=cat+dog",
        *model,
        *MASKS,
        *FAST,
    ]
    assert train(command) == 0
    assert load_head(output).spec.classes == ("pets",)
    assert shards(exemplars) == before
    assert "embedding" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("classes", "message"),
    [("", "no class"), ("cat,cat", "named twice"), ("cat,yak", "yak has no exemplar")],
)
def test_classes_that_cannot_be_trained_leave_nothing_behind(
    head: Path,
    exemplars: Path,
    model: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    classes: str,
    message: str,
) -> None:
    output = tmp_path / "x.safetensors"
    command = ["--exemplars", str(exemplars), "--output", str(output), "--classes", classes, *model, *MASKS, *FAST]
    assert train(command) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_other_mask_settings_need_another_folder_for_bags(
    head: Path, exemplars: Path, model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--exemplars", str(exemplars), "--output", str(tmp_path / "x.safetensors"), *model, *FAST]
    assert train([*command, "--masks.points-per-side", "2"]) == 2
    assert "--bags" in capsys.readouterr().err


@pytest.mark.slow
def test_negatives_teach_what_is_background(
    head: Path, exemplars: Path, model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A head takes the masks of these pictures for a class, until it has learned that they show none."""
    (tmp_path / "negatives").mkdir()
    for number in range(3):
        (tmp_path / "negatives" / f"{number}.jpg").write_bytes(picture_file(50 + number, (48, 56)))
    output = tmp_path / "careful.safetensors"
    command = ["--exemplars", str(exemplars), "--output", str(output), *model, *MASKS, *FAST]
    longer = [
        "--training.corrected-epochs",
        "30",
        "--training.learning-rate",
        "0.01",
        "--training.correction-weight",
        "3",
    ]
    assert train([*command, "--negatives", str(tmp_path / "negatives"), *longer]) == 0
    store = tmp_path / "negatives" / ".bags"
    records = load_embeddings(str(next(path for path in store.iterdir() if path.is_dir())))
    inputs = torch.cat([record.embeddings.features.inputs("token+pooled") for record in records])
    with torch.no_grad():
        shares = [float(load_head(path)(inputs).softmax(dim=-1)[:, -1].mean()) for path in (head, output)]
    assert shares[1] > 0.8 > shares[0]
    assert train([*command, "--negatives", str(exemplars / "fox")]) == 2
    assert "is an exemplar of fox, too" in capsys.readouterr().err


def disc(colour: tuple[int, int, int] | None, seed: int) -> bytes:
    """A picture of a disc on a plain ground, or of the ground alone."""
    generator = np.random.default_rng(seed)
    picture = generator.integers(90, 100, (72, 96, 3), dtype=np.uint8)
    if colour is not None:
        rows, columns = np.mgrid[:72, :96]
        inside = (rows - generator.uniform(30, 42)) ** 2 + (columns - generator.uniform(42, 54)) ** 2 < 22**2
        picture[inside] = np.array(colour) + generator.integers(0, 9, (int(inside.sum()), 3))
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def test_objects_of_exemplars_are_pasted_into_scenes_and_learnt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, colour in (("e/cherry", (220, 30, 30)), ("e/lime", (40, 210, 60)), ("scenes/deep", None)):
        (tmp_path / place).mkdir(parents=True)
        for number in range(3):
            (tmp_path / place / f"{number}.png").write_bytes(disc(colour, number))
    output, bags = tmp_path / "pasted.safetensors", tmp_path / "bags"
    command = ["--exemplars", str(tmp_path / "e"), "--output", str(output), "--bags", str(bags), *FAST]
    command += ["--masks.points-per-side", "4", "--training.epochs", "30", "--training.learning-rate", "0.01"]
    command += ["--scenes", str(tmp_path / "scenes"), "--composites", "3"]
    assert train(command) == 0
    assert "3 composites of the objects in" in capsys.readouterr().out
    pasted = {path.name: path.read_bytes() for path in (bags / "composites").glob("*.jpg")}
    assert len(pasted) == 3
    page = output.with_suffix(".html").read_text()
    assert "composites" in page
    for number in range(3):
        assert f"deep/{number}.png: " in page, "what the head finds in the scene"
    assert "cherry <b>3</b>" in page
    first = load_head(output)

    assert train(command) == 0
    assert "embedding the masks" not in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in (bags / "composites").glob("*.jpg")} == pasted
    second = load_head(output)
    assert second.spec == first.spec
    assert all(torch.equal(second.state_dict()[name], value) for name, value in first.state_dict().items())

    # Scenes that all show a class, and nothing pasted: they are looked at.
    command[command.index(str(tmp_path / "scenes"))] = str(tmp_path / "e")
    assert train([*command, "--composites", "0"]) == 0
    assert "composites of" not in capsys.readouterr().out
    assert "cherry/0.png: " in output.with_suffix(".html").read_text()

    assert train([*command, "--scenes", str(tmp_path / "nowhere")]) == 2
    assert "--scenes names one with pictures" in capsys.readouterr().err


def looking_head(head: Path, folder: Path) -> Path:
    """A head of random weights that reads crops of masks, for the model of another."""
    torch.manual_seed(1)
    spec = replace(load_head(head).spec, features="token+crop", crop_dim=imagenet.DIM, describer=imagenet.IDENTITY)
    save_head(ClassHead(spec), folder / "looking.safetensors")
    return folder / "looking.safetensors"


@pytest.mark.parametrize(
    ("reads_crops", "recipe"), [(False, "default"), pytest.param(True, "paper", marks=pytest.mark.slow)]
)
def test_masks_that_were_kept_are_labelled_again_alike(
    head: Path,
    exemplars: Path,
    model: list[str],
    tmp_path: Path,
    reads_crops: bool,
    recipe: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same masks with the same ids. Images that were labelled before keep none, and the command says so."""
    head = looking_head(head, tmp_path) if reads_crops else head
    kept, first, second = (str(tmp_path / name) for name in ("kept", "first", "second"))
    # Without a threshold many masks get a label, so that there is something to compare.
    options = ["--head", str(head), "--recipe", recipe, "--classes.score-thresh", "0"]
    labelling = ["--input", str(exemplars / "cat"), "--output", first, "--method", "classes", "--save-embeddings", kept]
    labelling += ["--classes.masks.points-per-side", "3", *model, "--actors", "1"]
    assert label([*labelling, *options]) == 0
    assert {record.image_id for record in load_embeddings(kept)} == {f"{number}.jpg" for number in range(4)}
    assert relabel(["--embeddings", kept, "--output", second, *options]) == 0
    labels = [{image.image_id: image.labels for image in LabelStore(uri).images()} for uri in (first, second)]
    assert labels[0] == labels[1]
    assert len(labels[0]) == 4
    assert any(image.masks for image in labels[0].values())
    assert label([*labelling, *options]) == 0
    assert "no mask embeddings" not in capsys.readouterr().out
    labelling[labelling.index(kept)] = str(tmp_path / "later")
    assert label([*labelling, *options]) == 0
    assert "later gets no mask embeddings of the 4 images that " in capsys.readouterr().out


def corrected_store(folder: Path) -> str:
    """A store of one image, of which a person finished the masks."""
    (folder / "photo.jpg").write_bytes(picture_file(1, (48, 56)))
    store = LabelStore(str(folder / "labels"))
    masks = np.zeros((2, 48, 56), dtype=np.bool_)
    masks[0, 4:30, 4:24] = masks[1, 10:40, 30:50] = True
    records = tuple(mask_record(mask, 0.5, class_id) for class_id, mask in enumerate(masks))
    labels = ImageLabels((48, 56), records, 0.5)
    photo = folder / "photo.jpg"
    image = ImageRow(photo.name, str(photo), labels, content_sha256=sha256_of(photo))
    store.write_part(to_table([image]), {"input": str(folder)})
    corrected = tuple(
        CorrectedMask("added", f"{number:024x}", None, mask.rle, mask.class_id, mask.class_name, None)
        for number, mask in enumerate(records)
    )
    write_corrections(
        store, [ImageCorrection("photo.jpg", None, (48, 56), "coco", None, None, "2026-11-26", corrected)]
    )
    return store.uri


def test_corrected_labels_alone_become_a_head_with_a_report_and_the_line_that_labels_anew(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, store = tmp_path / "corrected.safetensors", corrected_store(tmp_path)
    write_run(LabelStore(store), RunRecord({"input": str(tmp_path)}, settings={"method": "classes"}))
    assert train(["--corrections", store, "--output", str(output), *model, *MASKS, *FAST]) == 0
    following = f"next: everymask label --config {store}/run.json --head {output} --update"
    assert capsys.readouterr().out.splitlines()[-1] == following
    assert load_head(output).spec.classes == ("cat", "dog")
    assert "corrected images" in output.with_suffix(".html").read_text()


def test_corrections_are_learnt_beside_exemplars(
    head: Path, exemplars: Path, model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "both.safetensors"
    command = ["--exemplars", str(exemplars), "--output", str(output), *model, *MASKS, *FAST]
    assert train([*command, "--corrections", corrected_store(tmp_path)]) == 0
    assert "1 corrected image: 2 masks of classes" in capsys.readouterr().out
    assert load_head(output).spec.classes == ("cat", "dog", "fox")


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "nothing to learn"), (["--exemplars", "x", "--embeddings", "y"], "--corrections, which are missing")],
)
def test_training_on_nothing_is_one_sentence(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(["--output", str(tmp_path / "x.safetensors"), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_corrupt_head_is_one_sentence(
    head: Path, model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photo.jpg").write_bytes(picture_file(1))
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(head.read_bytes()[:-9])
    command = ["--input", str(tmp_path / "photo.jpg"), "--output", str(tmp_path / "out"), "--method", "classes", *model]
    assert label([*command, "--head", str(bad), "--actors", "1"]) == 2
    assert "damaged" in capsys.readouterr().err.splitlines()[-1]
